// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"time"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

var earlyOn = []func(*vpc.State){withEarlyProxy}

// earlyScenarios are connections whose target receives the PROXY header alone, right after the handshake.
var earlyScenarios = []scenario{
	{
		name:  "proxy-early-placement",
		about: "The header follows the handshake's ACK in a segment of its own, with the client's timestamps, for servers that speak first.",
		with:  earlyOn,
		steps: steps(handshake,
			fromTarget(ack(targetISN+1, behindSeq)),
			fromTarget(data(targetISN+1, behindSeq, "220 ready\r\n")),
			fromClient(ack(firstSeq, targetISN+12)),
			fromClient(data(firstSeq, targetISN+12, "EHLO\r\n")),
			fromTarget(ack(targetISN+12, behindSeq+6)),
			fromClient(data(firstSeq+6, targetISN+12, "QUIT\r\n"))),
	},
	{
		name:  "proxy-early-repeated",
		about: "A header that is not acknowledged is repeated after 200 ms, then after twice as long each time, six times in all.",
		with:  earlyOn,
		steps: steps(handshake, wait(60*time.Second)),
	},
	{
		name:  "proxy-early-acknowledged-late",
		about: "The repetitions stop when the target has acknowledged the whole header, not before.",
		with:  earlyOn,
		steps: steps(handshake, wait(250*time.Millisecond),
			fromTarget(ack(targetISN+1, behindSeq-1)), wait(500*time.Millisecond),
			fromTarget(ack(targetISN+1, behindSeq)), wait(5*time.Second)),
	},
	{
		name:  "proxy-early-lost-while-server-speaks",
		about: "While the header is lost, the client's bare acknowledgements bear the number behind it.",
		with:  earlyOn,
		steps: steps(handshake,
			fromTarget(data(targetISN+1, firstSeq, "220 ready\r\n")),
			fromClient(ack(firstSeq, targetISN+12)),
			wait(200*time.Millisecond),
			fromTarget(ack(targetISN+12, behindSeq))),
	},
	{
		name:  "proxy-early-client-closes-silently",
		about: "The FIN of a client that has said nothing comes behind the header, and its acknowledgement reaches the client.",
		with:  earlyOn,
		steps: steps(handshake,
			fromClient(flagged("FA", firstSeq, targetISN+1)),
			fromTarget(flagged("FA", targetISN+1, behindSeq+1)),
			fromClient(flagged("A", firstSeq+1, targetISN+2))),
	},
	{
		name:  "proxy-early-with-first-data",
		about: "When the handshake's ACK is lost and data comes first, the header goes with the data and is not sent alone.",
		with:  earlyOn,
		steps: steps(fromClient(syn), fromTarget(synAck),
			fromClient(data(firstSeq, targetISN+1, "EHLO\r\n")),
			fromClient(ack(firstSeq, targetISN+1)),
			wait(time.Second)),
	},
	{
		name:  "proxy-early-ack-before-syn-ack",
		about: "An ACK before the target has answered is no end of a handshake and brings no header.",
		with:  earlyOn,
		steps: steps(fromClient(syn), fromClient(ack(firstSeq, 1)), fromTarget(synAck), fromClient(ack(firstSeq, targetISN+1))),
	},
	{
		name:  "proxy-early-reset-ends-repetition",
		about: "A RST ends the repetition of the header.",
		with:  earlyOn,
		steps: steps(handshake, fromTarget(flagged("R", targetISN+1, 0)), wait(5*time.Second)),
	},
	{
		name:  "proxy-early-without-timestamps",
		about: "A client without timestamps gets a header without them, and its window is that of the ACK.",
		with:  earlyOn,
		steps: steps(
			fromClient(pkttest.TCP{Seq: clientISN, Flags: "S", Window: 1000}),
			fromTarget(pkttest.TCP{Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 1000}),
			fromClient(pkttest.TCP{Seq: firstSeq, Ack: targetISN + 1, Flags: "A", Window: 1234})),
	},
}
