// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/lab"
)

// pids are the processes of a lab.
func pids(t *testing.T, name string) map[string]int {
	t.Helper()
	list, err := lab.Status(lab.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	pids := map[string]int{}
	for _, process := range list {
		pids[process.Name] = process.PID
	}
	return pids
}

// endpoint is one of a lab as its daemon has it.
func endpoint(t *testing.T, name, id string) (*labapi.Client, *apiv1.Endpoint) {
	t.Helper()
	daemon, err := labapi.Dial(lab.Socket(lab.Dir(name)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { daemon.Close() })
	e, err := daemon.GetEndpoint(labapi.As(t.Context(), lab.Consumer), &apiv1.GetEndpointRequest{Name: id})
	if err != nil {
		t.Fatal(err)
	}
	return daemon, e
}

func TestLabUpAgain(t *testing.T) {
	p := build(t)
	name, file := p.topology("-again")
	p.must("lab", "up", file)
	before := pids(t, name)
	_, mail := endpoint(t, name, "mail")
	if out := p.must("lab", "up", file); strings.Contains(out, "update ") || strings.Contains(out, "create ") {
		t.Errorf("the same file again changes something:\n%s", out)
	}
	if after := pids(t, name); !maps.Equal(before, after) {
		t.Errorf("the processes were %v, with the same file again %v", before, after)
	}

	p.rewrite(file, "endpoints: [", "endpoints: [{name: post, service: service, vpc: consumer}, ", "server: banner}]", "server: banner}, {server: echo}]")
	if out := p.must("lab", "up", file); !strings.Contains(out, "create accounts/"+lab.Consumer+"/endpoints/post") {
		t.Errorf("lab up does not say that it makes an endpoint:\n%s", out)
	}
	after := pids(t, name)
	if after["server-1"] == 0 || after["server-0"] != before["server-0"] || after[daemonProcess] != before[daemonProcess] {
		t.Errorf("the processes were %v, with another server %v", before, after)
	}
	if out := p.must("lab", "exec", name+"/client", "--", "cat", "/etc/hosts"); !strings.Contains(out, " post ") {
		t.Errorf("the hosts file does not have the new endpoint:\n%s", out)
	}
	if out := p.must("lab", "status", name); strings.Count(out, "available") != 2 {
		t.Errorf("lab status does not show two endpoints:\n%s", out)
	}
	if _, now := endpoint(t, name, "mail"); now.Metadata.Uid != mail.Metadata.Uid {
		t.Errorf("the endpoint was %s, is %s", mail.Metadata.Uid, now.Metadata.Uid)
	}

	p.rewrite(file, "{name: post, service: service, vpc: consumer}, ", "")
	if out := p.must("lab", "up", file); !strings.Contains(out, "delete accounts/"+lab.Consumer+"/endpoints/post") {
		t.Errorf("lab up does not say that it deletes an endpoint:\n%s", out)
	}
	p.rewrite(file, "endpoints: [{name: mail,", "testing: {health_check_interval: 1s}\nendpoints: [{name: mail,")
	p.must("lab", "up", file)
	if pids(t, name)[daemonProcess] == before[daemonProcess] {
		t.Error("the daemon has not been started again, with other timers")
	}
	greeting(t, name)
	p.rewrite(file, "instances: [{name: client,", "instances: [{name: another, subnet: a}, {name: client,")
	if out, status := p.run("lab", "up", file); status == 0 || !strings.Contains(out, "take it down first") {
		t.Errorf("another instance: exit status %d\n%s", status, out)
	}
	greeting(t, name)
}

// A daemon that has died is started again, and has not forgotten anything.
func TestLabUpAfterDaemonWasKilled(t *testing.T) {
	p := build(t)
	name, file := p.topology("-revived")
	p.must("lab", "up", file)
	_, before := endpoint(t, name, "mail")
	pid := pids(t, name)[daemonProcess]
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, pid)
	p.must("lab", "up", file)
	greeting(t, name)
	if _, after := endpoint(t, name, "mail"); after.Metadata.Uid != before.Metadata.Uid {
		t.Errorf("the endpoint was %s, is %s", before.Metadata.Uid, after.Metadata.Uid)
	}
}

func TestLabUpLeavesAcceptanceToTheUser(t *testing.T) {
	p := build(t)
	name, file := p.topology("-manual")
	p.rewrite(file, "load_balancers: [nlb]}", "load_balancers: [nlb], acceptance_required: true}")
	if out := p.must("lab", "up", file); !strings.Contains(out, "pendingAcceptance") {
		t.Errorf("lab up does not say that the endpoint waits:\n%s", out)
	}
	daemon, waiting := endpoint(t, name, "mail")
	_, err := daemon.AcceptConnections(labapi.As(t.Context(), lab.Provider), &apiv1.AcceptConnectionsRequest{
		Service: "service", EndpointUids: []string{waiting.Metadata.Uid},
	})
	if err != nil {
		t.Fatal(err)
	}
	greeting(t, name)
	if out := p.must("lab", "up", file); !strings.Contains(out, "available") {
		t.Errorf("the endpoint is not available after the same file again:\n%s", out)
	}
}
