// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

const manifest = `name: lab
account: 111122223333
accounts:
  - name: 111122223333
    zones: {us-east-1a: use1-az1, "on": off}
    quotas: {vpcs: 7}
vpcs:
  - name: main
    metadata:
      tags:
        a.b: c
        Name: "1"
        empty: ""
      create_time: 2026-01-31T12:00:00.5Z
    cidrs: [10.0.0.0/16]
load_balancers:
  - name: nlb
    type: network
    listeners:
      - {port: 80, target_group: web, idle_timeout: 1.5s}
`

func TestManifest(t *testing.T) {
	want := &apiv1.Manifest{
		Name: "lab", Account: "111122223333",
		Accounts: []*apiv1.Account{{Name: "111122223333", Zones: map[string]string{"us-east-1a": "use1-az1", "on": "off"}, Quotas: &apiv1.Quotas{Vpcs: 7}}},
		Vpcs: []*apiv1.VPC{{Name: "main", Cidrs: []string{"10.0.0.0/16"}, Metadata: &apiv1.Metadata{
			Tags: map[string]string{"a.b": "c", "Name": "1", "empty": ""}, CreateTime: &timestamppb.Timestamp{Seconds: 1769860800, Nanos: 5e8},
		}}},
		LoadBalancers: []*apiv1.LoadBalancer{{Name: "nlb", Type: 1, Listeners: []*apiv1.Listener{{
			Port: 80, TargetGroup: "web", IdleTimeout: &durationpb.Duration{Seconds: 1, Nanos: 5e8},
		}}}},
	}
	got := &apiv1.Manifest{}
	if err := UnmarshalYAML("m.yaml", []byte(manifest), got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	data, err := MarshalYAML(want)
	if err != nil {
		t.Fatal(err)
	}
	again := &apiv1.Manifest{}
	if err := UnmarshalYAML("m.yaml", data, again); err != nil || !proto.Equal(want, again) {
		t.Errorf("written and read it is %v, error %v\n%s", again, err, data)
	}
	if tags := "        Name: \"1\"\n        a.b: c\n        empty: \"\"\n"; !strings.Contains(string(data), tags) {
		t.Errorf("tags are not written in order:\n%s", data)
	}
}

func TestManifestMistakes(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"vpcs: [{metadata: {tags: [a]}}]", "m.yaml:1:26: vpcs[0].metadata.tags: is a list; write a name and a value"},
		{"vpcs: [{metadata: {tags: {a: 1, a: 2}}}]", `vpcs[0].metadata.tags["a"]: is there twice`},
		{"vpcs: [{metadata: {tags: {a: [b]}}}]", `vpcs[0].metadata.tags["a"]: is a list; write a single value`},
		{"vpcs: [{metadata: {tags: {a: }}}]", `vpcs[0].metadata.tags["a"]: has no value`},
		{"vpcs: [{metadata: {tags: {a: &b c, d: *b}}}]", `vpcs[0].metadata.tags["d"]: is an alias`},
		{"vpcs: [{metadata: {tags: {[a]: b}}}]", "has a list where a name belongs"},
		{"vpcs: [{metadata: {create_time: yesterday}}]", `vpcs[0].metadata.create_time: "yesterday" is not a time; write one such as`},
		{"vpcs: [{metadata: {create_time: [1]}}]", "is a list; write a single value"},
		{"vpc: []", `m.yaml:1:1: vpc: unknown field; did you mean "vpcs"?`},
		{"accounts: [{quotas: {vpcs: many}}]", `accounts[0].quotas.vpcs: "many" is not a whole number`},
		{"attachments: [{bridge: {name: a}, namespace: {}}]", "attachments[0].namespace: cannot stand beside bridge"},
	} {
		err := UnmarshalYAML("m.yaml", []byte(c.yaml), &apiv1.Manifest{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.yaml, err, c.want)
		}
	}
	err := UnmarshalYAML("m.yaml", []byte("page_size: 2147483648"), &apiv1.ListVPCsRequest{})
	if err == nil || !strings.Contains(err.Error(), "is not a whole number up to 2147483647") {
		t.Errorf("a page that is too large gives %v", err)
	}
}

func TestLocate(t *testing.T) {
	for _, c := range []struct {
		path         string
		line, column int
	}{
		{"", 1, 1},
		{"name", 1, 7},
		{"accounts[0].quotas.vpcs", 6, 20},
		{`vpcs[0].metadata.tags["a.b"]`, 11, 14},
		{`vpcs[0].metadata.tags["none"]`, 11, 9},
		{"vpcs[0].cidrs[0]", 15, 13},
		{"vpcs[0].cidrs[7]", 15, 12},
		{"vpcs[0].zone", 8, 5},
		{"load_balancers[0].listeners[0].port", 20, 16},
		{`vpcs["x`, 8, 3},
		{"vpcs[x].a", 8, 3},
	} {
		if line, column := Locate([]byte(manifest), c.path); line != c.line || column != c.column {
			t.Errorf("%s is at %d:%d, want %d:%d", c.path, line, column, c.line, c.column)
		}
	}
	if line, column := Locate([]byte("a: ["), "a"); line != 0 || column != 0 {
		t.Errorf("no YAML has a line %d:%d", line, column)
	}
}

// FuzzUnmarshalYAML looks for panics, and for manifests that become others when they are written again.
func FuzzUnmarshalYAML(f *testing.F) {
	f.Add([]byte(manifest))
	f.Add([]byte("vpcs: [{metadata: {tags: {~: a, \"\": b}}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &apiv1.Manifest{}
		if err := UnmarshalYAML("f", data, m); err != nil {
			Locate(data, string(data))
			return
		}
		out, err := MarshalYAML(m)
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again := &apiv1.Manifest{}
		if err := UnmarshalYAML("g", out, again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, out)
		}
		if !proto.Equal(m, again) {
			t.Errorf("read %v, read again %v", m, again)
		}
	})
}
