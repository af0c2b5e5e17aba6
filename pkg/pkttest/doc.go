// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package pkttest builds, checks, describes and compares IPv4 and IPv6 packets for the tests of other packages. It stands on
// gopacket and shares no code with pkg/wire, so that a mistake there cannot hide behind the same mistake here.
//
// Packets are byte slices that start at the IP header and whose checksums are complete, unless Partial made them otherwise.
// The addresses choose the family. Builders return memory of their own and panic on what cannot be built, which is a mistake
// in the test. Nothing here is fit for a packet path.
//
//	build.go     TCP, UDP, ICMP, GRE and other protocols; partial checksums
//	fragment.go  fragments and IPv6 extension headers
//	geneve.go    packets in Geneve
//	option.go    TCP options
//	decode.go    Decode
//	check.go     Verify
//	describe.go  one line for people
//	diff.go      what differs between two packets
//	sequence.go  a scenario's packets as a diagram
package pkttest
