// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// outerLength is how many bytes stand before an inner packet: IPv4 20, UDP 8, GENEVE 8, options 12, 12 and 8.
const outerLength = 68

// awsShape compares a packet that the dataplane sends to an appliance with the form that AWS sends, byte for byte: every
// one of the first 68 bytes is either fixed or says what it has to say. Only those that were cut from a super-packet, by a
// kernel or in its place, may have an identification and a checksum, which has to be right then. The offsets are written
// out, to share nothing with pkg/wire. Sources: RFC 791, RFC 768, RFC 8926 sections 3.4 and 3.5, and the appliances of AWS's partners, some of
// which read the options at these very places.
func awsShape(b []byte, node, target netip.Addr, endpoint uint64, cut bool) error {
	if len(b) <= outerLength {
		return fmt.Errorf("%d bytes are too few for the headers and a packet", len(b))
	}
	var etherType uint16
	var tos byte // of the inner packet
	switch b[outerLength] >> 4 {
	case 4:
		etherType, tos = 0x0800, b[outerLength+1]
	case 6:
		etherType, tos = 0x86dd, b[outerLength]<<4|b[outerLength+1]>>4
	default:
		return fmt.Errorf("inside is version %d of IP", b[outerLength]>>4)
	}
	want := bytes.Clone(b[:outerLength])
	put := func(at int, text string) { copy(want[at:], unhex(text)) }
	put(0, "45")                                             // IPv4, no options
	want[1] = tos & 0xfc                                     // DSCP of the inner packet, no ECN
	binary.BigEndian.PutUint16(want[2:], uint16(len(b)))     // total length
	put(4, "0000 4000 ff 11")                                // no identification, DF, TTL 255, UDP
	copy(want[12:], node.AsSlice())                          // source
	copy(want[16:], target.AsSlice())                        // destination
	put(22, "17c1")                                          // port 6081
	binary.BigEndian.PutUint16(want[24:], uint16(len(b)-20)) // length of the datagram
	put(26, "0000")                                          // no checksum
	put(28, "08 00")                                         // version 0, 8 words of options, neither O nor C
	binary.BigEndian.PutUint16(want[30:], etherType)         // what is inside
	put(32, "000000 00")                                     // VNI 0, reserved
	put(36, "0108 01 02")                                    // Amazon, endpoint, 2 words
	binary.BigEndian.PutUint64(want[40:], endpoint)          // its number
	put(48, "0108 02 02 0000000000000000")                   // Amazon, attachment, 2 words: none
	put(60, "0108 03 01")                                    // Amazon, flow cookie, 1 word
	if cut && b[26]|b[27] != 0 {
		pseudo := slices.Concat(b[12:20], []byte{0, 17}, b[24:26])
		if onesSum(slices.Concat(pseudo, b[20:])) != 0xffff {
			return fmt.Errorf("the UDP checksum is %x, neither zero nor right", b[26:28])
		}
		copy(want[4:6], b[4:6])
		copy(want[26:28], b[26:28])
	}
	put(10, "0000")
	binary.BigEndian.PutUint16(want[10:], ^onesSum(want[:20])) // header checksum
	if at := firstDifference(want, b[:outerLength]); at >= 0 {
		return fmt.Errorf("byte %d of the outer headers is %#02x, want %#02x:\n got %x\nwant %x", at, b[at], want[at], b[:outerLength], want)
	}
	if port := binary.BigEndian.Uint16(b[20:]); port < 49152 {
		return fmt.Errorf("the source port is %d, which is not one of 49152 to 65535", port)
	}
	if binary.BigEndian.Uint32(b[64:]) == 0 {
		return errors.New("the flow cookie is 0")
	}
	return nil
}

// unhex is bytes written in hexadecimal, with spaces for the eye.
func unhex(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err) // a mistake in this file
	}
	return b
}

// onesSum is the sum of the words of b in one's complement (RFC 1071).
func onesSum(b []byte) uint16 {
	var sum uint32
	for i, octet := range b {
		sum += uint32(octet) << (8 * (1 - i&1))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// geneve says whether a captured packet is a GENEVE packet with an inner packet, to the node or away from it.
func (c captured) geneve() bool {
	return c.Protocol() == wire.ProtoUDP && len(c.IPv4) > outerLength && c.HeaderLen() == 20 &&
		binary.BigEndian.Uint16(c.IPv4[22:]) == 6081
}

// inner names the flow of the packet inside, the same for both directions: addresses and protocol, with ports for TCP
// and UDP.
func (c captured) inner(t testing.TB) string {
	t.Helper()
	var tuple wire.Tuple
	if !tuple.Parse(c.IPv4[outerLength:]) {
		t.Errorf("inside of a packet for an appliance is no packet: %x", []byte(c.IPv4[outerLength:min(len(c.IPv4), 200)]))
		return ""
	}
	ends := []string{fmt.Sprintf("%x", tuple.Src), fmt.Sprintf("%x", tuple.Dst)}
	if tuple.Proto == wire.ProtoTCP || tuple.Proto == wire.ProtoUDP {
		ends[0] += fmt.Sprint(":", tuple.SrcPort)
		ends[1] += fmt.Sprint(":", tuple.DstPort)
	}
	slices.Sort(ends)
	return fmt.Sprint(ends, " ", tuple.Proto)
}

// passage is what the appliances have seen of one flow.
type passage struct {
	firewalls, cookies map[string]bool
	sent, returned     int // packets, one that no one has cut into segments counts once
}

// passages are the flows that have passed since the beginning, from what was captured between dataplane and appliances.
func (n *inspection) passages(t testing.TB) map[string]*passage {
	t.Helper()
	n.settle()
	flows := map[string]*passage{}
	for _, f := range n.firewalls {
		for _, c := range f.wire.find(captured.geneve) {
			name := c.inner(t)
			if flows[name] == nil {
				flows[name] = &passage{firewalls: map[string]bool{}, cookies: map[string]bool{}}
			}
			p := flows[name]
			p.firewalls[f.address.String()] = true
			p.cookies[fmt.Sprintf("%x", []byte(c.IPv4[64:68]))] = true
			if c.out {
				p.returned++
			} else {
				p.sent++
			}
		}
	}
	return flows
}

// stuck fails the test for every flow that has seen more than one appliance or cookie, or that came back from none.
func (n *inspection) stuck(t testing.TB) map[string]*passage {
	t.Helper()
	flows := n.passages(t)
	for name, p := range flows {
		if len(p.firewalls) != 1 || len(p.cookies) != 1 || p.returned == 0 {
			t.Errorf("flow %s passed %v with cookies %v, %d packets there and %d back", name,
				slices.Collect(maps.Keys(p.firewalls)), slices.Collect(maps.Keys(p.cookies)), p.sent, p.returned)
		}
	}
	return flows
}

// changes says, in words, what the peer makes of the outer headers, and of the inner TTL and hop limit.
func (n *inspection) changes(t testing.TB) string {
	t.Helper()
	seen := map[string]map[string]bool{}
	add := func(field string, value any, out bool) {
		if seen[field] == nil {
			seen[field] = map[string]bool{}
		}
		direction := "sent "
		if out {
			direction = "returned "
		}
		seen[field][direction+fmt.Sprint(value)] = true
	}
	for _, f := range n.firewalls {
		for _, c := range f.wire.find(captured.geneve) {
			b := c.IPv4
			add("TTL", b[8], c.out)
			add("DF", b[6]&0x40 != 0, c.out)
			add("TOS", b[1], c.out)
			add("identification zero", b[4]|b[5] == 0, c.out)
			add("UDP checksum zero", b[26]|b[27] == 0, c.out)
			add("source port from 49152", binary.BigEndian.Uint16(b[20:]) >= 49152, c.out)
			if inside := b[outerLength:]; inside[0]>>4 == 6 {
				add("inner hop limit", inside[7], c.out)
			} else {
				add("inner TTL", inside[8], c.out)
			}
		}
	}
	var text []string
	for _, field := range slices.Sorted(maps.Keys(seen)) {
		text = append(text, field+": "+strings.Join(slices.Sorted(maps.Keys(seen[field])), ", "))
	}
	return strings.Join(text, "; ")
}
