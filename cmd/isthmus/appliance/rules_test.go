// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

var (
	src4 = netip.MustParseAddrPort("10.0.1.5:40000")
	dst4 = netip.MustParseAddrPort("192.0.2.7:23")
	src6 = netip.MustParseAddrPort("[2001:db8::5]:40000")
	dst6 = netip.MustParseAddrPort("[2001:db8:1::7]:443")
)

func tupleOf(t testing.TB, packet []byte) *wire.Tuple {
	t.Helper()
	var tuple wire.Tuple
	if !tuple.Parse(packet) {
		t.Fatalf("no tuple in %s", pkttest.Describe(packet))
	}
	return &tuple
}

func mustRule(t testing.TB, text string) Rule {
	t.Helper()
	r, err := ParseRule(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRules(t *testing.T) {
	packets := map[string][]byte{
		"tcp":   pkttest.TCP{Src: src4, Dst: dst4, Flags: "S"}.Bytes(),
		"tcp6":  pkttest.TCP{Src: src6, Dst: dst6, Flags: "S"}.Bytes(),
		"udp":   pkttest.UDP(src4, dst4, []byte("x")),
		"icmp":  pkttest.ICMPEcho(src4.Addr(), dst4.Addr(), 1, 1, nil),
		"icmp6": pkttest.ICMPEcho(src6.Addr(), dst6.Addr(), 1, 1, nil),
		"gre":   pkttest.GRE(src4.Addr(), dst4.Addr(), pkttest.UDP(dst4, src4, nil)),
		"later": pkttest.Fragment(pkttest.UDP(src4, dst4, make([]byte, 3000)), 1480)[1],
	}
	tests := map[string]string{
		"tcp":                            "tcp tcp6",
		"udp":                            "udp later",
		"icmp":                           "icmp icmp6",
		"gre":                            "gre",
		"proto 47":                       "gre",
		"dst port 23":                    "tcp udp",
		"tcp dst port 23":                "tcp",
		"src port 23":                    "",
		"port 23":                        "tcp udp",
		"port 40000":                     "tcp udp tcp6",
		"dst port 20-25":                 "tcp udp",
		"src 10.0.0.0/8":                 "tcp udp icmp gre later",
		"src 10.0.1.5":                   "tcp udp icmp gre later",
		"src 10.0.1.5/8":                 "tcp udp icmp gre later",
		"dst 10.0.0.0/8":                 "",
		"src 2001:db8::/32 tcp":          "tcp6",
		"dst 192.0.2.7 dst port 23  udp": "udp",
	}
	for text, want := range tests {
		rule := mustRule(t, text)
		if rule.String() != strings.Join(strings.Fields(text), " ") {
			t.Errorf("%q is written as %q", text, &rule)
		}
		for name, packet := range packets {
			expected := strings.Contains(" "+want+" ", " "+name+" ")
			if got := rule.matches(tupleOf(t, packet)); got != expected {
				t.Errorf("%q matches %s: %v, want %v", text, name, got, expected)
			}
		}
	}
}

func TestParseRuleErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "empty rule",
		"http":                      `"http" starts no term`,
		"tcp udp":                   "write two rules",
		"proto tcp":                 "no protocol number",
		"proto 256":                 "no protocol number",
		"proto":                     "no protocol number",
		"src":                       "no address or prefix",
		"src 10.0.0.0/33":           "no address or prefix",
		"dst nowhere":               "no address or prefix",
		"src 10.0.0.1 src 10.0.0.2": "write two rules",
		"dst port":                  "no port",
		"dst port 0":                "no port",
		"dst port 65536":            "no port",
		"port 9-8":                  "no port",
		"port 1 port 2":             "write two rules",
	} {
		if _, err := ParseRule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}
