// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// tsharkPreferences make tshark judge what belongs to the dataplane: checksums of every layer, but not the course of
// connections, which the same packet seen before and behind an appliance would confuse. Fragments are judged each for
// itself.
var tsharkPreferences = []string{
	"-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
	"-o", "tcp.analyze_sequence_numbers:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE",
	"-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE",
}

// tsharkKnows are the protocols that tshark is left with. Others would be guessed from ports, which tests choose without
// a thought, and even from payloads, and then found wanting.
var tsharkKnows = []string{
	"_ws.expert", "_ws.malformed", "_ws.short", "frame", "raw", "data", "ip", "ipv6", "udp", "tcp", "icmp", "icmpv6", "geneve", "gre",
}

// explained are messages about packets that are as they should be.
var explained = []string{
	"Connection reset (RST)",                      // said of every RST
	"This frame initiates the connection closing", // said of every FIN
	"This frame undergoes the connection closing",
	"D-SACK Sequence", // said of a kernel that got what another sent again too early
}

// dissection is what tshark says of one packet.
type dissection struct {
	protocols  string   // from the outside, with colons between
	complaints []string // notes, warnings and errors, less those that are explained
	fields     []string // of geneveFields
}

// geneveFields are tshark's names for all that a GENEVE header says; of options it lists three values each. The first
// length is that of all options, the others count the 4 bytes that each begins with.
var geneveFields = []string{
	"geneve.version", "geneve.flags", "geneve.proto_type", "geneve.vni", "geneve.reserved", "geneve.option.class",
	"geneve.option.type", "geneve.option.length", "geneve.option.flags", "geneve.option.unknown.data",
}

// geneveAsAWS is what tshark has to say in these fields of a packet of a flow.
func geneveAsAWS(etherType uint16, endpoint uint64, cookie uint32) []string {
	return []string{
		"0", "0x00", fmt.Sprintf("0x%04x", etherType), "0x000000", "0x00", "0x0108|0x0108|0x0108",
		"0x01|0x02|0x03", "32|12|12|8", "0x00|0x00|0x00", fmt.Sprintf("%016x|%016x|%08x", endpoint, 0, cookie),
	}
}

// noteworthy is the least severity that counts, that of notes (epan/proto.h: PI_NOTE); below are comments and chat.
const noteworthy = 0x400000

// dissect has tshark look at packets, without link layer headers, in one run.
func dissect(t testing.TB, packets [][]byte) []dissection {
	t.Helper()
	tshark := find(t, "tshark")
	dir := t.TempDir()
	file := filepath.Join(dir, "packets.pcap")
	writePcap(t, file, packets)
	argv := slices.Concat([]string{"-r", file, "-n"}, tsharkPreferences, []string{"-T", "fields", "-E", "aggregator=|"})
	fields := append([]string{"frame.number", "frame.protocols", "_ws.expert.severity", "_ws.expert.message", "_ws.malformed"}, geneveFields...)
	for _, field := range fields {
		argv = append(argv, "-e", field)
	}
	forgetProtocols(t, tshark, dir)
	lines := strings.Split(strings.TrimSuffix(runTshark(t, dir, tshark, argv...), "\n"), "\n")
	if len(lines) != len(packets) {
		t.Fatalf("tshark speaks of %d packets, want %d", len(lines), len(packets))
	}
	list := make([]dissection, len(lines))
	for i, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != len(fields) || f[0] != strconv.Itoa(i+1) {
			t.Fatalf("line %d of tshark's output is %q", i+1, line)
		}
		list[i] = dissection{protocols: f[1], complaints: complaints(t, f[2], f[3], f[4]), fields: f[5:]}
	}
	return list
}

// runTshark runs it with the preferences below dir and nobody's else, and returns what it prints.
func runTshark(t testing.TB, dir, tshark string, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tshark, argv...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "LC_ALL=C")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, &said)
	}
	return string(out)
}

// forgetProtocols writes to the preferences below dir that all but tsharkKnows are off.
func forgetProtocols(t testing.TB, tshark, dir string) {
	t.Helper()
	var off strings.Builder
	for line := range strings.Lines(runTshark(t, dir, tshark, "-G", "protocols")) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(f) >= 3 && !slices.Contains(tsharkKnows, f[2]) {
			off.WriteString(f[2] + "\n")
		}
	}
	dir = filepath.Join(dir, "wireshark")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "disabled_protos"), []byte(off.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// complaints are the messages that are not explained, from the fields of a line.
func complaints(t testing.TB, severities, messages, malformed string) (list []string) {
	t.Helper()
	if malformed != "" {
		list = append(list, "malformed: "+malformed)
	}
	if severities == "" {
		return list
	}
	texts := strings.Split(messages, "|")
	for i, s := range strings.Split(severities, "|") {
		severity, err := strconv.ParseUint(s, 0, 32)
		if err != nil || i >= len(texts) {
			t.Fatalf("tshark's expert says %q, with severities %q", messages, severities)
		}
		if severity >= noteworthy && !slices.Contains(explained, texts[i]) {
			list = append(list, texts[i])
		}
	}
	return list
}

// writePcap writes packets to a file, a millisecond apart.
func writePcap(t testing.TB, file string, packets [][]byte) {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(1<<17, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		info := gopacket.CaptureInfo{Timestamp: time.UnixMilli(int64(i)), CaptureLength: len(p), Length: len(p)}
		if err := w.WritePacket(info, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
