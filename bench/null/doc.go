// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package null is the least that can stand between two TUN devices: it copies packets from one to the other and looks
// at nothing (null.go). Its throughput bounds what a dataplane on such devices can reach, and ratios to it mean the same on
// a slow machine as on a fast one.
//
// RunGeneve is the least that can stand between the device of a GWLB endpoint and an appliance: the same copier, which puts
// GENEVE around what goes there (wrap.go) and takes it off what comes back (unwrap.go). It crosses into the kernel as often,
// and with as many bytes, as any dataplane must: super-packets are cut into segments, each a datagram of a UDP super-packet,
// and joined again. All else it saves. Its headers are constant; it knows no flow, checks nothing it gets back, and no
// checksum covers a payload. What of a packet it needs on its return it writes into GENEVE's options, which appliances leave
// alone: the virtio_net_hdr, so that checksums stay unfinished, and the segment's number, by which segments are joined.
// Such packets are for no network: it is a copier for this bench, and its appliance sits on the same machine.
//
// The package is frozen. It shares no code with the dataplane, so that an improvement there shows as one.
package null
