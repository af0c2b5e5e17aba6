// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/doctor"
)

// TestDoctor asks a daemon with a port that is closed and one with a warning. What this machine has of its own is left out.
func TestDoctor(t *testing.T) {
	socket := listen(t, &fakeDaemon{status: &apiv1.StatusResponse{DesiredRevision: 8, Error: "a wrong field", Ports: []*apiv1.PortStatus{
		{Id: "closed", Error: "no such namespace"},
		{Id: "odd", Open: true, Warnings: []string{"it is narrow; mend it with: ip link set dev x mtu 9001"}},
	}}})
	store := filepath.Join(t.TempDir(), "store.db")
	code, stdout, stderr := execute("doctor", "--socket", socket, "--store", store, "-o", "json")
	if code != 1 || stderr != "" {
		t.Errorf("exit code %d, and on stderr %q", code, stderr)
	}
	var report doctor.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in:\n%s", err, stdout)
	}
	of := map[string]doctor.Finding{}
	for _, f := range report.Findings {
		of[f.Where] = f
	}
	if of["closed"].Severity != doctor.Fault || !strings.HasSuffix(of["closed"].Fault, ": no such namespace") {
		t.Errorf("of the closed port it says %+v", of["closed"])
	}
	if f := of["odd"]; f.Fault != "it is narrow" || f.Mend != "ip link set dev x mtu 9001" {
		t.Errorf("of the odd port it says %+v", f)
	}
	code, stdout, _ = execute("doctor", "--socket", socket, "--store", store)
	for _, want := range []string{"SEVERITY", "odd: it is narrow\n", "    mend it with: ip link set dev x mtu 9001\n", "revision 8 is not in force: a wrong field"} {
		if code != 1 || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, and %q is not in:\n%s", code, want, stdout)
		}
	}
}

func TestDoctorExitCodes(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "d.sock")
	code, stdout, _ := execute("doctor", "--socket", missing, "--store", "memory")
	if code != 1 || !strings.Contains(stdout, "isthmus daemon --socket "+missing) {
		t.Errorf("without the daemon that was named: exit code %d, and:\n%s", code, stdout)
	}
	code, _, stderr := execute("doctor", "--gateway")
	if code != exitUsage || !strings.Contains(stderr, "--netns") {
		t.Errorf("--gateway alone: exit code %d, and %s", code, stderr)
	}
	for _, c := range []struct {
		name   string
		report doctor.Report
		want   int
	}{
		{"nothing", doctor.Report{}, exitOK},
		{"a warning", doctor.Report{Findings: []doctor.Finding{{Severity: doctor.Warning}}}, 1},
		{"a limit", doctor.Report{Limits: []doctor.Limit{{Check: "x"}}}, 2},
		{"both", doctor.Report{Findings: []doctor.Finding{{}}, Limits: []doctor.Limit{{}}}, 1},
	} {
		got := exitOK
		if err := examined(&c.report); err != nil {
			got = int(err.(exitStatus))
		}
		if got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.want)
		}
	}
}
