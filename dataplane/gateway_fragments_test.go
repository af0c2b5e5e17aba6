// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"time"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// fragmentScenarios are fragments of what GWLB endpoints carry.
var fragmentScenarios = []scenario{
	{
		name:  "gwlb-fragments-follow-first",
		about: "All fragments of a datagram go to the appliance of the first, and come back, though only that has ports.",
		with:  []func(*vpc.State){withGateway, withAppliances(5)},
		steps: steps(throughAll(fragmentsOf(pkttest.UDP(clientAddr, serverAddr, []byte(long(100))))), wentTo(1, 4), cookies(1, 4),
			through("consumer", pkttest.UDP(serverAddr, clientAddr, []byte("answer"))), cookies(1, 5),
			throughAll(pkttest.Fragment6(pkttest.UDP(client6Addr, server6Addr, []byte(long(100))), 32, 5)), wentTo(1, 4), cookies(1, 4),
			// In IPv6 a later fragment may name another protocol than the first.
			throughAll(behindOptions(pkttest.UDP(client6Addr, server6Addr, []byte(long(100))))), cookies(1, 8)),
	},
	{
		name:  "gwlb-fragment-orphan",
		about: "A later fragment whose first one has not come, or came more than 30 s ago, vanishes. One of ICMP needs no first one.",
		with:  gateway,
		steps: steps(func(s *story) {
			parts := fragmentsOf(pkttest.UDP(clientAddr, serverAddr, []byte(long(100))))
			s.inject("consumer", parts[1])
			vanished(FragmentOrphan, 1)(s)
			through("consumer", parts[0])(s)
			through("consumer", parts[2])(s)
			jump(30 * time.Second)(s)
			s.inject("consumer", parts[3])
			vanished(FragmentOrphan, 2)(s)
			// What has another identification is of another datagram.
			other := pkttest.Fragment6(pkttest.UDP(client6Addr, server6Addr, []byte(long(100))), 32, 6)
			through("consumer", other[0])(s)
			s.inject("consumer", pkttest.Fragment6(pkttest.UDP(client6Addr, server6Addr, []byte(long(100))), 32, 7)[1])
			vanished(FragmentOrphan, 3)(s)
			through("consumer", fragmentsOf(pkttest.ICMPEcho(clientAddr.Addr(), serverAddr.Addr(), 1, 1, []byte(long(100))))[1])(s)
		}),
	},
	{
		name:  "gwlb-fragments-of-three-tuple",
		about: "Where ports do not count fragments need no first one, but in IPv6, where only that tells the protocol.",
		with:  []func(*vpc.State){withGateway, withStickiness(vpc.ThreeTuple)},
		steps: steps(func(s *story) {
			parts := fragmentsOf(pkttest.UDP(clientAddr, serverAddr, []byte(long(100))))
			through("consumer", parts[2])(s)
			through("consumer", parts[0])(s)
			cookies(1, 2)(s)
			parts = behindOptions(pkttest.UDP(client6Addr, server6Addr, []byte(long(100))))
			s.inject("consumer", parts[1])
			vanished(FragmentOrphan, 1)(s)
			throughAll(parts)(s)
			through("consumer", pkttest.UDP(server6Addr, client6Addr, []byte("answer")))(s)
			cookies(1, 5)(s)
		}),
	},
	{
		name:  "gwlb-fragments-of-tcp",
		about: "A fragmented segment is carried as its flow is: that of a connection passes, one of none vanishes, and no RST answers it.",
		with:  []func(*vpc.State){withGateway, withResetOnIdle},
		steps: steps(throughAll(fragmentsOf(fromHere(pkttest.TCP{Seq: 1, Flags: "S", Payload: []byte(long(80))}).Bytes())),
			throughAll(fragmentsOf(fromThere(data(5, 2, long(68))).Bytes())), cookies(1, 8),
			packets("consumer", func(*story) [][]byte {
				return fragmentsOf(between(data(5, 2, long(68)), targetAddr, serverAddr).Bytes())
			}), vanished(NotInspected, 4)),
	},
}

// fragmentsOf cuts an IPv4 packet into fragments of 32 bytes of payload.
func fragmentsOf(pkt []byte) [][]byte { return pkttest.Fragment(pkt, 32) }

// behindOptions are fragments of an IPv6 packet whose first has destination options, which the others name instead of UDP.
func behindOptions(pkt []byte) [][]byte {
	return pkttest.Fragment6(pkttest.Extend(pkt, pkttest.Extension{Kind: 60}), 32, 9)
}

// throughAll is through for a list of packets.
func throughAll(list [][]byte) step {
	return func(s *story) {
		s.inject("consumer", list...)
		inspected()(s)
		came("consumer", list...)(s)
	}
}
