// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
)

// noFlags are fields that only the daemon sets, and what flags are not for.
var noFlags = []protoreflect.FullName{
	"isthmus.v1.VPC.default_security_group", "isthmus.v1.Subnet.zone_id", "isthmus.v1.Attachment.open", "isthmus.v1.SecurityGroup.default",
	"isthmus.v1.TargetGroup.draining_targets", "isthmus.v1.EndpointService.service_name", "isthmus.v1.EndpointService.type",
	"isthmus.v1.EndpointService.zone_ids", "isthmus.v1.Endpoint.state", "isthmus.v1.Endpoint.state_reason", "isthmus.v1.Endpoint.state_time",
	"isthmus.v1.Endpoint.creator", "isthmus.v1.Endpoint.generation",
}

// TestEveryFieldHasAFlag fails when the schema has a field that create and update cannot set, and when a flag has no field.
func TestEveryFieldHasAFlag(t *testing.T) {
	for _, k := range kinds() {
		var settable []string
		for _, f := range fieldFlags[k.Kind] {
			if fieldAt(k.message, strings.Split(f.path, ".")) == nil {
				t.Errorf("--%s of %s is for %s, which is no field", f.name, k.word, f.path)
			}
			settable = append(settable, strings.Split(f.path, ".")[0])
		}
		fields := k.message.Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			if f.Name() != "name" && f.Name() != "metadata" && !slices.Contains(noFlags, f.FullName()) && !slices.Contains(settable, string(f.Name())) {
				t.Errorf("%s has no flag; add one to fieldFlags, or it to noFlags", f.FullName())
			}
		}
	}
}

// TestColumnsAreFields follows the path of every column.
func TestColumnsAreFields(t *testing.T) {
	for _, k := range kinds() {
		for _, c := range slices.Concat(columns[k.Kind].short, columns[k.Kind].wide, general) {
			if fieldAt(k.message, strings.Split(c.path, ".")) == nil {
				t.Errorf("%s of %s is %s, which is no field", c.title, k.word, c.path)
			}
		}
		for _, verb := range []string{"Create", "Get", "List", "Update", "Delete"} {
			if k.methods[verb] == nil {
				t.Errorf("%s has no method %s", k.word, verb)
			}
		}
		if k.Kind == 0 {
			t.Errorf("%s is no kind of the rules", k.word)
		}
	}
}

func TestFlagsMakeMessages(t *testing.T) {
	for _, c := range []struct {
		kind  string
		flags string
		want  string // in YAML
		mask  string
	}{
		{"vpc", "--cidr 10.0.0.0/16 --cidr 10.1.0.0/16,10.2.0.0/16 --tag a.b=c=d --tag e=", "{cidrs: [10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16], metadata: {tags: {a.b: c=d, e: ''}}}",
			"cidrs,metadata.tags.`a.b`,metadata.tags.e"},
		{"endpoint", "--subnet a --subnet b,10.0.1.5 --subnet address=10.0.1.6,subnet=c --bandwidth 5,burst_time=2s",
			"{enis: [{subnet: a}, {subnet: b, address: 10.0.1.5}, {subnet: c, address: 10.0.1.6}], bandwidth: {rate_bits_per_second: 5, burst_time: 2s}}",
			"enis,bandwidth.rate_bits_per_second,bandwidth.burst_time"},
		{"lb", "--type gateway --listener target_group=tg --cross-zone --mtu 1500", "{type: gateway, listeners: [{target_group: tg}], cross_zone: true, mtu: 1500}", "type,listeners,cross_zone,mtu"},
		{"svc", "--no-acceptance --allow * --load-balancer 1", "{acceptance_required: false, allowed_principals: ['*'], load_balancers: ['1']}", "acceptance_required,allowed_principals,load_balancers"},
		{"tg", "--deregistration-delay 5m --terminate-on-unhealthy=false --stickiness source_ip_dest_ip", "{deregistration_delay: 300s, terminate_on_unhealthy: false, stickiness: source_ip_dest_ip}",
			"deregistration_delay,terminate_on_unhealthy,stickiness"},
		{"sg", "--ingress -1,cidrs=[0.0.0.0/0] --description null", "{description: 'null', ingress: [{protocol: '-1', cidrs: [0.0.0.0/0]}]}", "ingress,description"},
		{"att", "--netns-address 10.0.1.1/24,10.0.1.2/24 --subnet true", "{subnet: 'true', namespace: {addresses: [10.0.1.1/24, 10.0.1.2/24]}}", "namespace.addresses,subnet"},
		{"rt", "--route 0.0.0.0/0,ep --table 7", "{table: 7, routes: [{destination: 0.0.0.0/0, endpoint: ep}]}", "routes,table"},
	} {
		k, err := kindNamed(c.kind)
		if err != nil {
			t.Fatal(err)
		}
		cmd := &cobra.Command{}
		e := addFieldFlags(cmd, k, &api{})
		if err := cmd.ParseFlags(strings.Fields(c.flags)); err != nil {
			t.Errorf("%s %s: %v", c.kind, c.flags, err)
			continue
		}
		got, err := e.resource(cmd, "")
		if err != nil {
			t.Errorf("%s %s: %v", c.kind, c.flags, err)
			continue
		}
		want := got.ProtoReflect().New().Interface()
		if err := codec.UnmarshalYAML("want", []byte(c.want), want); err != nil {
			t.Fatal(err)
		}
		if mask := strings.Join(e.paths, ","); !proto.Equal(got, want) || mask != c.mask {
			t.Errorf("%s %s: made %v, want %v; mask %s, want %s", c.kind, c.flags, got, want, mask, c.mask)
		}
	}
}

func TestMaskPaths(t *testing.T) {
	for _, path := range []string{"a", "a.b", "a.`b.c`", "`a.b`.c"} {
		steps, err := splitMask(path)
		if err != nil || maskPath(steps) != path {
			t.Errorf("%s became %q, error %v", path, steps, err)
		}
	}
	for _, path := range []string{"", ".", "a..b", "`a", "``.b"} {
		if steps, err := splitMask(path); err == nil {
			t.Errorf("%q became %q", path, steps)
		}
	}
}

func FuzzFlags(f *testing.F) {
	f.Add("a,address=10.0.0.1", "x=[a,b]")
	f.Add("]],[=", "`a")
	k, err := kindNamed("endpoint")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, flag, set string) {
		cmd := &cobra.Command{}
		e := addFieldFlags(cmd, k, &api{})
		if cmd.Flags().Set("subnet", flag) != nil || cmd.Flags().Set("bandwidth", flag) != nil || e.set(set) != nil || e.unset(set) != nil {
			return
		}
		e.decode(&apiv1.Endpoint{})
	})
}

func TestKindWords(t *testing.T) {
	for word, want := range map[string]string{
		"endpoint": "endpoint", "Endpoints": "endpoint", "ep": "endpoint", "eps": "endpoint", "endpointServices": "endpoint-service",
		"endpoint_service": "endpoint-service", "svc": "endpoint-service", "services": "endpoint-service", "VPCs": "vpc", "target-groups": "target-group",
		"sg": "security-group", "lb": "load-balancer", "rt": "route-table", "att": "attachment", "accounts": "account",
	} {
		if k, err := kindNamed(word); err != nil || k.word != want {
			t.Errorf("%s is %v, want %s; error %v", word, k, want, err)
		}
	}
	for _, word := range []string{"", "s", "end", "endpointss", "pod"} {
		if k, err := kindNamed(word); err == nil {
			t.Errorf("%q is %s", word, k.word)
		}
	}
}

func TestTargetArguments(t *testing.T) {
	got, err := parseTargets([]string{"10.0.0.1", "10.0.0.2:80", "10.0.0.3:81,az2", "10.0.0.4,az3"}, "az1")
	want := []*apiv1.Target{
		{Address: "10.0.0.1", ZoneId: "az1"}, {Address: "10.0.0.2", Port: 80, ZoneId: "az1"},
		{Address: "10.0.0.3", Port: 81, ZoneId: "az2"}, {Address: "10.0.0.4", ZoneId: "az3"},
	}
	if err != nil || !slices.EqualFunc(got, want, func(a, b *apiv1.Target) bool { return proto.Equal(a, b) }) {
		t.Errorf("got %v, error %v", got, err)
	}
	for _, arg := range []string{"", "x", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:x", ":80"} {
		if got, err := parseTargets([]string{arg}, ""); err == nil {
			t.Errorf("%q is %v", arg, got)
		}
	}
}
