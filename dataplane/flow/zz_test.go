package flow

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestZZ(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	worst := map[string]float64{}
	over := map[string]int{}
	for range 60 {
		k := HashKey{r.Uint64(), r.Uint64()}
		for name, p := range stickyPatterns {
			var high, low [4096]int
			for i := range uint32(4096 * 32) {
				key := p(i)
				h := k.HashSticky(&key)
				high[h>>52]++
				low[uint32(h)>>20]++
			}
			for half, c := range map[string]*[4096]int{"high": &high, "low": &low} {
				chi := 0.0
				for _, n := range c {
					d := float64(n - 32)
					chi += d * d / 32
				}
				worst[name+half] = max(worst[name+half], chi)
				if chi > 4095+540 {
					over[name+half]++
				}
			}
		}
	}
	for n, w := range worst {
		fmt.Println(n, w, over[n])
	}
}
func TestZZOld(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"net", "addr", "port"} {
		over, worst := 0, 0.0
		for range 60 {
			k := HashKey{r.Uint64(), r.Uint64()}
			var high [4096]int
			for i := range uint32(4096 * 32) {
				key := Key{Remote: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}, RemotePort: 40000, LocalPort: 443, ENI: 1}
				switch name {
				case "net":
					key.Remote[4], key.Remote[5], key.Remote[6], key.Remote[7] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
				case "addr":
					key.Remote = mapped(i)
				default:
					key.Remote = mapped(i >> 15)
					key.RemotePort = uint16(i)
				}
				h := k.Hash(&key)
				high[h>>52]++
			}
			chi := 0.0
			for _, n := range high {
				d := float64(n - 32)
				chi += d * d / 32
			}
			worst = max(worst, chi)
			if chi > 4095+540 {
				over++
			}
		}
		fmt.Println("OLD Hash", name, worst, over)
	}
}
