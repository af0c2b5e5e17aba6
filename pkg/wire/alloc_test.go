// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"testing"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// TestNoAllocations runs everything the packet path calls on one packet.
func TestNoAllocations(t *testing.T) {
	b := append(segment().Bytes(), make([]byte, 200)...)
	scratch := make([]byte, 200)
	b6 := extended()
	quote := pkttest.ICMPError(ICMPv6Unreachable, 4, server6Addr.Addr(), client6Addr.Addr(), b6)
	local, remote := mapped("10.0.3.7"), mapped("2001:db8::9")
	if n := testing.AllocsPerRun(100, func() {
		ip, ok := ParseIPv4(b)
		if !ok {
			t.Fatal("packet refused")
		}
		ip.RewriteSrc(ip.Dst())
		ip.RewriteTotalLen(ip.TotalLen())
		tcp, _ := ParseTCP(ip[ip.HeaderLen():])
		tcp.PatchSeq(tcp.Seq()+1, true)
		off, length, _ := tcp.FindOption(OptTimestamps)
		value := [8]byte{1, 2, 3}
		tcp.Patch(off+2, value[:], true)
		_, _ = tcp.MSS()
		_, _, _ = tcp.SetMSS(536)
		tcp.PatchBlank(off, length, true)
		tcp.SetChecksum(Checksum(tcp, PseudoSum4(ip.Src(), ip.Dst(), ProtoTCP, uint16(len(tcp)))))
		tcp.SetFlags(TCPAck)
		PutReset(scratch, ip, tcp, 0)
		PutProxyV2(scratch, local, local, 1, 2, testEndpoint)
		PutProxyV2(scratch, local, remote, 1, 2, testEndpoint)
		PutProxyV2Local(scratch)
		PutReset6(scratch, b6, b6[IPv6Len:], 0)
		PutUDP(scratch, 50000, GenevePort, len(scratch))
		_, _ = ParseUDP(scratch)
		PutGeneveAWS(scratch, EtherTypeIPv6, 1, 0, 2)
		scratch[GeneveAWSLen] = 6 << 4
		if _, why := ParseGeneveAWS(scratch); why != GeneveOK {
			t.Fatal(why)
		}
		g, _ := ParseGeneve(scratch)
		_, _ = g.AWS()
		_, _ = EndpointNumber(testEndpoint)
		var tuple Tuple
		if !tuple.Parse(b) || !tuple.Parse(b6) || !tuple.ParseQuoted(quote) {
			t.Fatal("packet refused")
		}
		PutARP(scratch, ARPReply, macA, [4]byte{}, macB, [4]byte{})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
