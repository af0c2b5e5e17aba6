// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/isthmus-net/isthmus/cmd/isthmus/appliance"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// get asks the appliance on the host as a health checker does.
func get(host *netns.NS, path string, into any) error {
	dialer := &netns.Dialer{NS: host}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	answer, err := client.Get("http://127.0.0.1:80" + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

func TestHealthCheckHasTheCounters(t *testing.T) {
	b := newBalancer(t, appliance.Options{Health: ":80"})
	b.send(encapsulated(pkttest.Geneve{Inner: pkttest.UDP(client, server, []byte("x")), Options: pkttest.AWSOptions(0x123456789abcdef0, 0, 3)}))
	b.receive()
	for _, path := range []string{"/", "/health"} {
		var s appliance.Stats
		must(t, get(b.host, path, &s))
		if len(s.Endpoints) != 1 || s.Endpoints[0].Endpoint != endpointName || s.Sent.Packets != 1 || s.Mode != "hairpin" || s.Flows != 1 {
			t.Errorf("%s: %+v", path, s)
		}
	}
	var flows []appliance.FlowStats
	must(t, get(b.host, "/flows", &flows))
	if len(flows) != 1 || flows[0].Source != client || flows[0].Forth.Out.Packets != 1 {
		t.Errorf("%+v", flows)
	}
}

// An unhealthy appliance does not even accept connections.
func TestUnhealthy(t *testing.T) {
	fail := filepath.Join(t.TempDir(), "fail")
	must(t, os.WriteFile(fail, nil, 0o600))
	b := &bed{T: t, host: netnstest.New(t)}
	b.runAppliance(appliance.Options{Health: ":80", FailHealth: fail})
	refused := func() bool { return errors.Is(get(b.host, "/", new(any)), syscall.ECONNREFUSED) }
	answered := func() bool { return get(b.host, "/", new(any)) == nil }
	if !refused() {
		t.Error("answered from the start, though the file is there")
	}
	must(t, os.Remove(fail))
	await(t, "healthy without the file", answered)
	b.appliance.SetHealthy(false)
	await(t, "unhealthy when told so", refused)
	b.appliance.SetHealthy(true)
	await(t, "healthy again", answered)
	must(t, os.WriteFile(fail, nil, 0o600))
	await(t, "unhealthy with the file", refused)
}
