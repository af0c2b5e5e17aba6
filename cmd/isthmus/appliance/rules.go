// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Rule matches inner packets: those that meet all its terms. The zero value matches every packet.
type Rule struct {
	text     string
	protos   []uint8
	src, dst netip.Prefix // not valid: any
	// Port ranges are inclusive; a zero one matches any port. either is that of one side or the other.
	srcPort, dstPort, either portRange
}

type portRange struct{ low, high uint16 }

func (r portRange) unset() bool              { return r == portRange{} }
func (r portRange) contains(p uint16) bool   { return r.low <= p && p <= r.high }
func (r portRange) permits(port uint16) bool { return r.unset() || r.contains(port) }

// protocols are the words for protocols in rules.
var protocols = map[string][]uint8{
	"tcp": {wire.ProtoTCP}, "udp": {wire.ProtoUDP}, "icmp": {wire.ProtoICMP, wire.ProtoICMPv6}, "gre": {wire.ProtoGRE},
}

// ParseRule reads a rule, which is terms in any order, each at most once:
//
//	tcp | udp | icmp | gre | proto NUMBER
//	src PREFIX | dst PREFIX
//	src port PORTS | dst port PORTS | port PORTS
//
// PREFIX is an address or a prefix of either family, PORTS a port or two with a dash between. A rule with ports matches TCP
// and UDP only; a later fragment, which has no ports, is not matched by it.
func ParseRule(text string) (Rule, error) {
	r := Rule{text: strings.Join(strings.Fields(text), " ")}
	words := strings.Fields(text)
	if len(words) == 0 {
		return r, errors.New(`empty rule: write for example "tcp dst port 23"`)
	}
	for len(words) > 0 {
		n, err := r.term(words)
		if err != nil {
			return r, fmt.Errorf("rule %q: %w", r.text, err)
		}
		words = words[n:]
	}
	return r, nil
}

// term reads the term at the start of words and says how many of them it was.
func (r *Rule) term(words []string) (n int, err error) {
	word := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch first := words[0]; {
	case first == "proto":
		number, err := strconv.ParseUint(word(1), 10, 8)
		if err != nil {
			return 0, fmt.Errorf("%q is no protocol number from 0 to 255", word(1))
		}
		return 2, set(&r.protos, []uint8{uint8(number)}, r.protos != nil)
	case protocols[first] != nil:
		return 1, set(&r.protos, protocols[first], r.protos != nil)
	case first == "port":
		return 2, setPorts(&r.either, word(1))
	case first == "src" && word(1) == "port":
		return 3, setPorts(&r.srcPort, word(2))
	case first == "dst" && word(1) == "port":
		return 3, setPorts(&r.dstPort, word(2))
	case first == "src":
		return 2, setPrefix(&r.src, word(1))
	case first == "dst":
		return 2, setPrefix(&r.dst, word(1))
	}
	return 0, fmt.Errorf("%q starts no term: use tcp, udp, icmp, gre, proto, src, dst or port", words[0])
}

func set[T any](field *T, value T, taken bool) error {
	if taken {
		return errors.New("a term is there twice: write two rules")
	}
	*field = value
	return nil
}

func setPrefix(field *netip.Prefix, word string) error {
	prefix, err := netip.ParsePrefix(word)
	if addr, failed := netip.ParseAddr(word); failed == nil {
		prefix, err = addr.WithZone("").Prefix(addr.BitLen())
	}
	if err != nil {
		return fmt.Errorf("%q is no address or prefix", word)
	}
	return set(field, prefix.Masked(), field.IsValid())
}

func setPorts(field *portRange, word string) error {
	low, high, isRange := strings.Cut(word, "-")
	if !isRange {
		high = low
	}
	from, err1 := strconv.ParseUint(low, 10, 16)
	to, err2 := strconv.ParseUint(high, 10, 16)
	if err1 != nil || err2 != nil || from == 0 || from > to {
		return fmt.Errorf("%q is no port from 1 to 65535, nor two of them in order with a dash between", word)
	}
	return set(field, portRange{uint16(from), uint16(to)}, !field.unset())
}

// String is the rule as it was written.
func (r *Rule) String() string { return r.text }

// matches says whether the packet with this tuple meets all terms.
func (r *Rule) matches(t *wire.Tuple) bool {
	if r.protos != nil && !slices.Contains(r.protos, t.Proto) {
		return false
	}
	if r.src.IsValid() && !r.src.Contains(address(&t.Src)) || r.dst.IsValid() && !r.dst.Contains(address(&t.Dst)) {
		return false
	}
	if r.srcPort.unset() && r.dstPort.unset() && r.either.unset() {
		return true
	}
	return hasPorts(t) && r.srcPort.permits(t.SrcPort) && r.dstPort.permits(t.DstPort) &&
		(r.either.permits(t.SrcPort) || r.either.permits(t.DstPort))
}

// hasPorts says whether the packet shows its ports.
func hasPorts(t *wire.Tuple) bool {
	return (t.Proto == wire.ProtoTCP || t.Proto == wire.ProtoUDP) && !t.Frag.IsLater()
}

// address is an address of a tuple, without the mapping of IPv4.
func address(a *[16]byte) netip.Addr { return netip.AddrFrom16(*a).Unmap() }
