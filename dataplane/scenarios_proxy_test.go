// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Numbers of the client's first byte, and of the one behind the header as the target counts.
const (
	firstSeq  = clientISN + 1
	behindSeq = firstSeq + 100
)

var proxyOn = []func(*vpc.State){withProxy}

// proxyScenarios are connections whose target receives a PROXY header before the client's first byte.
var proxyScenarios = []scenario{
	{
		name:  "proxy-header-first-byte",
		about: "The header precedes the client's first byte; later numbers are 100 higher toward the target, and lower on the way back.",
		with:  proxyOn,
		steps: steps(handshake,
			fromClient(data(firstSeq, targetISN+1, "hello ")),
			fromTarget(ack(targetISN+1, behindSeq+6)),
			fromClient(data(firstSeq+6, targetISN+1, "world")),
			fromTarget(data(targetISN+1, behindSeq+11, "hi")),
			fromClient(flagged("FA", firstSeq+11, targetISN+3)),
			fromTarget(flagged("FA", targetISN+3, behindSeq+12)),
			fromClient(flagged("A", firstSeq+12, targetISN+4))),
	},
	{
		name:  "proxy-header-retransmitted",
		about: "Every segment that starts at the first byte carries the header again, however it is cut.",
		with:  proxyOn,
		steps: steps(handshake,
			fromClient(data(firstSeq, targetISN+1, "hello")),
			wait(200*time.Millisecond),
			fromClient(data(firstSeq, targetISN+1, "hello")),
			fromClient(data(firstSeq, targetISN+1, "he")),
			fromClient(data(firstSeq+2, targetISN+1, "llo")),
			fromClient(data(firstSeq, targetISN+1, "hello world"))),
	},
	{
		name:  "proxy-segments-reordered",
		about: "A later segment that overtakes the first is shifted although no header has been sent yet.",
		with:  proxyOn,
		steps: steps(handshake,
			fromClient(data(firstSeq+6, targetISN+1, "world")),
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: firstSeq, Flags: "A", Window: 500,
				Options: []layers.TCPOption{pkttest.SACK(behindSeq+6, behindSeq+11)}}),
			fromClient(data(firstSeq, targetISN+1, "hello "))),
	},
	{
		name:  "proxy-header-acknowledged-in-part",
		about: "An acknowledgement inside the header is one of nothing for the client, and the window shrinks by what is missing.",
		with:  proxyOn,
		steps: steps(handshake,
			fromClient(data(firstSeq, targetISN+1, "hello")),
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: firstSeq + 40, Flags: "A", Window: 1000}),
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: behindSeq, Flags: "A", Window: 1000}),
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: behindSeq + 5, Flags: "A", Window: 1000})),
	},
	{
		name:  "proxy-sack-mapped",
		about: "SACK blocks come to the client in its own numbers; one that is about the header alone disappears.",
		with:  proxyOn,
		steps: steps(handshake,
			fromClient(data(firstSeq, targetISN+1, "0123456789")),
			fromTarget(sacking(firstSeq, behindSeq+20, behindSeq+30, behindSeq+40, behindSeq+50)),
			fromTarget(sacking(behindSeq+10, firstSeq, behindSeq, behindSeq+20, behindSeq+30)),
			fromTarget(sacking(behindSeq+10, firstSeq, behindSeq)),
			fromTarget(sacking(behindSeq+10, firstSeq, behindSeq+10))),
	},
	{
		name:  "proxy-window-narrowed",
		about: "Until the header is acknowledged the target's window is lowered by what the header takes of it.",
		with:  proxyOn,
		steps: steps(
			fromClient(syn),
			fromTarget(synAck),
			fromClient(ack(firstSeq, targetISN+1)),
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: firstSeq, Flags: "A", Window: 10}),
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: firstSeq, Flags: "A", Window: 1}),
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: firstSeq, Flags: "A", Window: 0}),
			fromClient(data(firstSeq, targetISN+1, "h")),
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: behindSeq + 1, Flags: "A", Window: 10})),
	},
	{
		name:  "proxy-client-closes-silently",
		about: "A client that closes without a word causes no header, and its numbers stay as they are to the end.",
		with:  proxyOn,
		steps: steps(handshake,
			fromClient(flagged("FA", firstSeq, targetISN+1)),
			fromTarget(flagged("A", targetISN+1, firstSeq+1)),
			fromTarget(data(targetISN+1, firstSeq+1, "bye")),
			fromClient(flagged("A", firstSeq+1, targetISN+4)),
			fromClient(flagged("R", firstSeq+1, 0))),
	},
	{
		name:  "proxy-server-speaks-first",
		about: "What the target says before the client has spoken passes, and so do the client's acknowledgements.",
		with:  proxyOn,
		steps: steps(handshake,
			fromTarget(data(targetISN+1, firstSeq, "220 ready\r\n")),
			fromClient(ack(firstSeq, targetISN+12)),
			fromClient(data(firstSeq, targetISN+12, "EHLO\r\n"))),
	},
	{
		name:  "proxy-reset-is-exact",
		about: "The RST of a client that aborts bears the number the target expects, of the header's bytes if need be.",
		with:  proxyOn,
		steps: steps(handshake,
			fromClient(data(firstSeq, targetISN+1, "hello")),
			fromClient(ack(firstSeq, targetISN+1)),
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: firstSeq + 40, Flags: "A", Window: 1000}),
			fromClient(flagged("R", firstSeq, 0))),
	},
	{
		name:  "proxy-keepalive-before-data",
		about: "A keepalive before any data, with a byte of garbage or without, carries no header.",
		with:  proxyOn,
		steps: steps(handshake, fromClient(ack(clientISN, targetISN+1)), fromClient(data(clientISN, targetISN+1, "x"))),
	},
	{
		name:  "proxy-fast-open-stripped",
		about: "Fast Open and Multipath TCP are taken out of the handshake and data out of the SYN; the client sends it again.",
		with:  proxyOn,
		steps: steps(
			fromClient(pkttest.TCP{Seq: clientISN, Flags: "S", Window: 1000, Payload: []byte("early data"),
				Options: []layers.TCPOption{pkttest.FastOpen([]byte("cookie12")), {OptionType: 30, OptionLength: 4, OptionData: []byte{0, 1}}, pkttest.MSS(1460)}}),
			fromTarget(pkttest.TCP{Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 1000,
				Options: []layers.TCPOption{pkttest.MSS(1460), {OptionType: 254, OptionLength: 6, OptionData: []byte{0xf9, 0x89, 1, 2}}}}),
			fromClient(data(firstSeq, targetISN+1, "early data"))),
	},
	{
		name:  "proxy-segment-from-before-first-byte",
		about: "Data that begins before the first byte, as after Fast Open, is cut there and gets the header.",
		with:  proxyOn,
		steps: steps(handshake,
			fromClient(data(clientISN, targetISN+1, "?hello")),
			fromClient(data(clientISN-1, targetISN+1, "??hello"))),
	},
	{
		name:  "proxy-mss-lowered",
		about: "The client's MSS is the target's less the header: 1360 for 1460.",
		with:  proxyOn,
		steps: steps(fromClient(pkttest.TCP{Seq: clientISN, Flags: "S", Window: 1000, Options: []layers.TCPOption{pkttest.MSS(1460)}}),
			fromTarget(pkttest.TCP{Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 1000, Options: []layers.TCPOption{pkttest.MSS(1460)}})),
	},
	{
		name:  "proxy-mss-option-inserted",
		about: "A SYN-ACK without MSS gets one of 436 for the client, since 536 less the header is what fits.",
		with:  proxyOn,
		steps: steps(fromClient(pkttest.TCP{Seq: clientISN, Flags: "S", Window: 1000}),
			fromTarget(pkttest.TCP{Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 1000, Options: []layers.TCPOption{pkttest.WScale(3)}}),
			fromClient(data(firstSeq, targetISN+1, long(436)))),
	},
	{
		name:  "proxy-mss-too-small",
		about: "A target whose MSS does not hold the header in one segment cannot be used with it.",
		with:  proxyOn,
		steps: steps(fromClient(pkttest.TCP{Seq: clientISN, Flags: "S", Window: 1000}),
			fromTarget(pkttest.TCP{Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 1000, Options: []layers.TCPOption{pkttest.MSS(88)}}),
			fromClient(data(firstSeq, targetISN+1, "hello"))),
	},
	{
		name:  "proxy-first-segment-cut",
		about: "A first segment that fills the target's MSS by itself leaves as two, the header whole in the first.",
		with:  proxyOn,
		steps: steps(fromClient(pkttest.TCP{Seq: clientISN, Flags: "S", Window: 1000}),
			fromTarget(pkttest.TCP{Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 1000, Options: []layers.TCPOption{pkttest.MSS(1460)}}),
			fromClient(data(firstSeq, targetISN+1, long(1448)))),
	},
	{
		name:  "proxy-first-segment-corrupt",
		about: "A first segment that would have to be cut is not, when its checksum is wrong: cutting would make it right.",
		with:  proxyOn,
		steps: steps(handshake,
			packets("consumer", func(s *story) [][]byte {
				b := pkttest.TCP{Src: clientAddr, Dst: endpointAddr, Seq: firstSeq, Ack: targetISN + 1, Flags: "A", Payload: []byte(long(8460))}.Bytes()
				b[50] ^= 1
				return [][]byte{b}
			}), wantDrops(Malformed, 1)),
	},
	{
		name:  "proxy-urgent-pointer",
		about: "The urgent pointer of a segment with the header counts over it.",
		with:  proxyOn,
		steps: steps(handshake,
			fromClient(pkttest.TCP{Seq: firstSeq, Ack: targetISN + 1, Flags: "PAU", Urgent: 3, Payload: []byte("hello")}),
			fromClient(pkttest.TCP{Seq: firstSeq, Ack: targetISN + 1, Flags: "PAU", Urgent: 65500, Payload: []byte("hello")}),
			fromClient(pkttest.TCP{Seq: firstSeq + 5, Ack: targetISN + 1, Flags: "PAU", Urgent: 3, Payload: []byte("world")})),
	},
	{
		name:  "proxy-numbers-wrap",
		about: "All of it works across the end of the sequence numbers, here inside the header.",
		with:  proxyOn,
		steps: steps(
			fromClient(pkttest.TCP{Seq: 0xffffffc0, Flags: "S", Window: 1000}),
			fromTarget(pkttest.TCP{Seq: 0xfffffffe, Ack: 0xffffffc1, Flags: "SA", Window: 1000, Options: []layers.TCPOption{pkttest.MSS(1460)}}),
			fromClient(data(0xffffffc1, 0xffffffff, "hello ")),
			fromTarget(pkttest.TCP{Seq: 0xffffffff, Ack: 5, Flags: "A", Window: 1000}),
			fromTarget(pkttest.TCP{Seq: 0xffffffff, Ack: 0x2b, Flags: "A", Window: 1000}),
			fromTarget(data(0xffffffff, 0x2b, "hi")),
			fromClient(data(0xffffffc7, 1, "world"))),
	},
	{
		name:  "proxy-icmp-number-shifted",
		about: "The number that an ICMP error quotes is shifted back, since the client's stack looks for one it has sent.",
		with:  proxyOn,
		steps: steps(handshake,
			fromClient(data(firstSeq, targetISN+1, "hello")),
			packets("provider", func(s *story) [][]byte { return s.icmpAbout(3, 1, 28) }),
			fromClient(data(firstSeq+5, targetISN+1, "world")),
			packets("provider", func(s *story) [][]byte { return s.icmpAbout(3, 1, 57) })),
	},
}

// sacking is an acknowledgement of the target with SACK blocks, and an option in front of them.
func sacking(ack uint32, edges ...uint32) pkttest.TCP {
	return pkttest.TCP{Seq: targetISN + 1, Ack: ack, Flags: "A", Window: 500, Options: []layers.TCPOption{
		pkttest.NOP(), pkttest.NOP(), pkttest.Timestamps(702, 101), pkttest.NOP(), pkttest.NOP(), pkttest.SACK(edges...)}}
}
