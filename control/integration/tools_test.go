// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/lab"
)

// TestCurl fetches from and posts to nginx with curl.
func TestCurl(t *testing.T) {
	curl := find(t, "curl")
	b := newBed(t, options{services: proxied})
	b.startServers()
	const size = 5_000_000
	dir := t.TempDir()
	got, headers := filepath.Join(dir, "body"), filepath.Join(dir, "headers")
	url := "http://" + endpoint(nginxPort)
	run(t, b.consumer, curl, "-sS", "--fail", "--interface", hosts[1].String(), "-D", headers, "-o", got,
		fmt.Sprintf("%s/bytes?n=%d", url, size))
	want := sha256.New()
	io.Copy(want, lab.Pattern(size))
	body, err := os.ReadFile(got)
	if sum := sha256.Sum256(body); err != nil || !bytes.Equal(sum[:], want.Sum(nil)) {
		t.Errorf("curl wrote %d bytes that are not the %d asked for (%v)", len(body), size, err)
	}
	if text, err := os.ReadFile(headers); err != nil || !strings.Contains(string(text), sourceHeader+": "+hosts[1].String()+":") {
		t.Errorf("the answer does not name the source %s (%v):\n%s", hosts[1], err, text)
	}
	var digest lab.Digest
	answer := run(t, b.consumer, curl, "-sS", "--fail", "--data-binary", "@"+got, url+"/hash")
	if err := json.Unmarshal(answer, &digest); err != nil || digest.SHA256 != hex.EncodeToString(want.Sum(nil)) {
		t.Errorf("curl sent %d bytes, the server received %s (%v)", size, answer, err)
	}
	b.quiet()
}

// TestIperf3 measures both directions with iperf3, several connections at once.
func TestIperf3(t *testing.T) {
	const iperfPort = 5201
	iperf := find(t, "iperf3")
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			b := newBed(t, options{services: []service{{port: iperfPort}}, off: m.off})
			start(t, b.provider, iperf, "-s", "-4", "-p", fmt.Sprint(iperfPort), "--logfile", os.DevNull)
			listening(t, b.provider, iperfPort)
			before := b.counters()
			for _, direction := range [][]string{nil, {"-R"}} {
				argv := append([]string{
					iperf, "-c", eniAddr.String(), "-p", fmt.Sprint(iperfPort), "-J", "-P", "3", "-n", load("20M", "100M", "1G"),
				}, direction...)
				var report struct {
					End struct {
						Sent struct {
							Bytes       float64
							Retransmits int
						} `json:"sum_sent"`
						Received struct {
							Bytes         float64
							BitsPerSecond float64 `json:"bits_per_second"`
						} `json:"sum_received"`
					}
					Error string
				}
				out := run(t, b.consumer, argv...)
				if err := json.Unmarshal(out, &report); err != nil || report.Error != "" {
					t.Fatalf("iperf3 says %s (%v)", out, err)
				}
				end := report.End // what was still under way at the end counts as sent but not as received
				if end.Received.Bytes == 0 || end.Received.Bytes > end.Sent.Bytes {
					t.Errorf("iperf3 %v sent %.0f bytes, of which %.0f arrived", direction, end.Sent.Bytes, end.Received.Bytes)
				}
				t.Logf("iperf3 %v: %.2f Gbit/s, %d retransmissions", direction, end.Received.BitsPerSecond/1e9, end.Sent.Retransmits)
			}
			b.quiet()
			b.unmoved(before, corrupt...)
			b.unmoved(before, "TcpExtBeyondWindow")
		})
	}
}
