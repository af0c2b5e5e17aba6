// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyResource(t)
		m := Encode(r)
		again, err := Decode(m, DecodeOptions{Outputs: true})
		if err != nil {
			t.Fatalf("%v\n%v", err, m)
		}
		if diff := cmp.Diff(r, again, sameStates); diff != "" {
			t.Fatalf("encoded -, decoded +:\n%s", diff)
		}
		wrapped, err := Wrap(m)
		if err != nil || Unwrap(wrapped) != m {
			t.Fatalf("wrapped and unwrapped it is %v, error %v", Unwrap(wrapped), err)
		}
		text, err := MarshalYAML(m)
		if err != nil {
			t.Fatal(err)
		}
		read := m.ProtoReflect().New().Interface()
		if err := UnmarshalYAML("r.yaml", text, read); err != nil || !proto.Equal(m, read) {
			t.Fatalf("through YAML it is %v, want %v, error %v\n%s", read, m, err, text)
		}
	})
}

func TestMarshalUnmarshal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyResource(t)
		data, err := Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Unmarshal(data)
		if err != nil {
			t.Fatal(err)
		}
		again.Metadata().Revision = r.Metadata().Revision
		if diff := cmp.Diff(r, again, sameStates); diff != "" {
			t.Fatalf("written -, read +:\n%s", diff)
		}
	})
}

// TestEveryFieldIsEncoded fails when a message has a field that no resource fills.
func TestEveryFieldIsEncoded(t *testing.T) {
	ofTheMoment := map[protoreflect.FullName]bool{
		"isthmus.v1.Metadata.applied_revision": true, "isthmus.v1.Metadata.problem": true, "isthmus.v1.Attachment.open": true,
		"isthmus.v1.Target.health": true, "isthmus.v1.Target.health_reason": true,
		"isthmus.v1.SubnetAddress.zone_id": true, // the subnet knows it
	}
	seen := map[protoreflect.FullName]bool{}
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			seen[f.FullName()] = true
			switch {
			case f.IsList() && f.Message() != nil:
				for i := range v.List().Len() {
					walk(v.List().Get(i).Message())
				}
			case !f.IsList() && !f.IsMap() && f.Message() != nil:
				walk(v.Message())
			}
			return true
		})
	}
	var want func(m protoreflect.MessageDescriptor)
	want = func(m protoreflect.MessageDescriptor) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if !seen[f.FullName()] && !ofTheMoment[f.FullName()] {
				t.Errorf("no sample encodes %s", f.FullName())
			}
			if group(f) && !f.IsMap() {
				want(f.Message())
			}
		}
	}
	samples := samples()
	for _, r := range samples {
		walk(Encode(r).ProtoReflect())
	}
	for _, r := range samples {
		want(Encode(r).ProtoReflect().Descriptor())
	}
}

// TestOutputsAreIgnored decodes what a client sends back as it has read it.
func TestOutputsAreIgnored(t *testing.T) {
	for _, r := range samples() {
		got, err := Decode(Encode(r), DecodeOptions{Account: "999999999999"})
		if err != nil {
			t.Fatal(err)
		}
		if meta := got.Metadata(); meta.UID != "" || meta.Revision != 0 || !meta.Created.IsZero() || meta.Manifest != "" || meta.Key != r.Metadata().Key {
			t.Errorf("%T: metadata is %+v", r, meta)
		}
		switch got := got.(type) {
		case *resource.VPC:
			if got.DefaultSecurityGroup != "" {
				t.Error("the default security group was taken")
			}
		case *resource.TargetGroup:
			if len(got.Draining) > 0 {
				t.Error("draining targets were taken")
			}
		case *resource.EndpointService:
			if got.Name != "" || got.ZoneIDs != nil || got.Type != vpc.Interface {
				t.Errorf("outputs of the service were taken: %+v", got)
			}
		case *resource.Endpoint:
			if got.State != 0 || got.Reason != "" || !got.StateSince.IsZero() {
				t.Errorf("outputs of the endpoint were taken: %+v", got)
			}
		}
	}
}

func TestDecodeDefaults(t *testing.T) {
	decode := func(m proto.Message) resource.Resource {
		t.Helper()
		r, err := Decode(m, DecodeOptions{Account: consumer})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	g := decode(&apiv1.TargetGroup{Type: statev1.LoadBalancerType_LOAD_BALANCER_TYPE_GATEWAY, Vpc: "main", Targets: []*apiv1.Target{{Address: "10.0.0.9"}}}).(*resource.TargetGroup)
	if g.Group.HealthCheck != applianceCheck || g.Group.TerminateOnUnhealthy || g.Group.Targets[0].Port != 6081 || g.Group.VPC != "main" ||
		g.Key != (resource.Key{Kind: resource.KindTargetGroup, Account: consumer}) {
		t.Errorf("a gateway's group is %+v", g)
	}
	g = decode(&apiv1.TargetGroup{}).(*resource.TargetGroup)
	if g.Group.HealthCheck.Interval != 30*time.Second || !g.Group.TerminateOnUnhealthy || g.Group.DeregistrationDelay != 300*time.Second {
		t.Errorf("a group is %+v", g)
	}
	if lb := decode(&apiv1.LoadBalancer{Listeners: []*apiv1.Listener{{Port: 80}}}).(*resource.LoadBalancer); lb.Listeners[0].IdleTimeout != 350*time.Second {
		t.Errorf("a load balancer is %+v", lb)
	}
	if s := decode(&apiv1.EndpointService{}).(*resource.EndpointService); s.AutoAccept {
		t.Error("a service accepts by itself")
	}
	a := decode(&apiv1.Account{Name: provider}).(*resource.Account)
	if a.Key != (resource.Key{Kind: resource.KindAccount, Account: provider, ID: provider}) {
		t.Errorf("an account's key is %+v", a.Key)
	}
}

func TestDecodeMistakes(t *testing.T) {
	for _, c := range []struct {
		m    proto.Message
		want string // path: problem, of each mistake
	}{
		{&apiv1.VPC{Name: "accounts/1/subnets/a"}, `name: "accounts/1/subnets/a" is not the name of one of vpcs; write accounts/ACCOUNT/vpcs/ID`},
		{&apiv1.VPC{Name: "accounts//vpcs/a"}, `name: "accounts//vpcs/a" leaves a part empty`},
		{&apiv1.VPC{Name: "accounts/-/vpcs/a"}, "leaves a part empty"},
		{&apiv1.VPC{Name: "accounts/1/vpcs/a/b"}, "is not the name"},
		{&apiv1.VPC{Cidrs: []string{"10.0.0.0/16", "10.0.0.0"}}, `cidrs[1]: "10.0.0.0" is not a prefix`},
		{&apiv1.Subnet{Cidr: "x", Vpc: "accounts/2/vpcs/a"}, "cidr: \"x\" is not a prefix; write an address and a length, such as 10.0.0.0/16\n" +
			`vpc: "accounts/2/vpcs/a" belongs to another account; only what account 111122223333 owns can stand here`},
		{&apiv1.SecurityGroup{Ingress: []*apiv1.SecurityGroupRule{{}, {ToPort: 65536, Group: "a/b"}}}, "ingress[1].to_port: 65536 is not a TCP port"},
		{&apiv1.SecurityGroup{Members: []string{"10.0.0.1", "ten"}}, `members[1]: "ten" is not a prefix`},
		{&apiv1.Attachment{Kind: &apiv1.Attachment_Bridge{Bridge: &apiv1.BridgeAttachment{Gateway: "a"}}}, "bridge.name: is missing"},
		{&apiv1.Attachment{Kind: &apiv1.Attachment_Bridge{}}, "bridge.name: is missing"},
		{&apiv1.LoadBalancer{Type: 9}, "type: 9 is not a value that this server knows"},
		{&apiv1.LoadBalancer{Nodes: []*apiv1.SubnetAddress{{Address: "10.0.0.256"}}}, `nodes[0].address: "10.0.0.256" is not an address`},
		{&apiv1.LoadBalancer{Listeners: []*apiv1.Listener{{Port: 70000, IdleTimeout: &durationpb.Duration{Seconds: 1 << 40}}}},
			"listeners[0].port: 70000 is not a TCP port; write 1 to 65535\nlisteners[0].idle_timeout: is not a duration"},
		{&apiv1.TargetGroup{HealthCheck: &statev1.HealthCheck{Protocol: 7, Matcher: "ok"}}, "health_check.protocol: 7 is not a value"},
		{&apiv1.TargetGroup{HealthCheck: &statev1.HealthCheck{Matcher: "ok"}}, `health_check.matcher: "ok" is not a status code`},
		{&apiv1.TargetGroup{HealthCheck: &statev1.HealthCheck{Interval: &durationpb.Duration{Nanos: -1, Seconds: 1}}}, "health_check.interval: is not a duration"},
		{&apiv1.TargetGroup{Targets: []*apiv1.Target{{Address: "1.2.3.4", Port: 1 << 17}}}, "targets[0].port: 131072 is not a TCP port"},
		{&apiv1.Endpoint{SecurityGroups: []string{"a", "accounts/1/vpcs/b"}}, `security_groups[1]: "accounts/1/vpcs/b" is not the name of one of securityGroups`},
		{&apiv1.RouteTable{Routes: []*apiv1.Route{{Destination: "0.0.0.0"}}}, `routes[0].destination: "0.0.0.0" is not a prefix`},
	} {
		_, err := Decode(c.m, DecodeOptions{Account: consumer})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v:\n got %v\nwant %s", c.m, err, c.want)
			continue
		}
		var first *resource.Error
		if !errors.As(err, &first) || first.Code != resource.InvalidArgument || first.Field == "" || first.EC2 == "" || first.Reason == "" {
			t.Errorf("%v gives %#v", c.m, first)
		}
	}
	if _, err := Decode(&apiv1.Account{Metadata: &apiv1.Metadata{CreateTime: &timestamppb.Timestamp{Nanos: -1}}}, DecodeOptions{Outputs: true}); err == nil ||
		!strings.Contains(err.Error(), "metadata.create_time: is not a time") {
		t.Errorf("a wrong time gives %v", err)
	}
	if _, err := Decode(&apiv1.Manifest{}, DecodeOptions{}); err == nil {
		t.Error("a manifest passed for a resource")
	}
	if _, err := Wrap(&apiv1.Manifest{}); err == nil {
		t.Error("a manifest was wrapped")
	}
}

// TestDecodeBarren decodes messages and lists with nothing in them, which only a program can make.
func TestDecodeBarren(t *testing.T) {
	for _, m := range []proto.Message{
		&apiv1.Account{}, &apiv1.VPC{}, &apiv1.Subnet{}, &apiv1.SecurityGroup{Ingress: make([]*apiv1.SecurityGroupRule, 1)},
		&apiv1.TargetGroup{Targets: make([]*apiv1.Target, 1)}, &apiv1.LoadBalancer{Nodes: make([]*apiv1.SubnetAddress, 1), Listeners: make([]*apiv1.Listener, 1)},
		&apiv1.EndpointService{}, &apiv1.Endpoint{Enis: make([]*apiv1.SubnetAddress, 1)}, &apiv1.Attachment{}, &apiv1.RouteTable{Routes: make([]*apiv1.Route, 1)},
	} {
		if _, err := Decode(m, DecodeOptions{Outputs: true}); err != nil {
			t.Errorf("%T: %v", m, err)
		}
	}
}

func TestNames(t *testing.T) {
	for kind := resource.KindAccount; kind <= resource.KindRouteTable; kind++ {
		k := resource.Key{Kind: kind, Account: consumer, ID: "a"}
		if kind == resource.KindAccount {
			k.ID = consumer
		}
		if got, err := ParseName(Name(k), kind, provider); err != nil || got != k {
			t.Errorf("%s is %+v, error %v", Name(k), got, err)
		}
		if got, err := ParseName(k.ID, kind, consumer); err != nil || got != k {
			t.Errorf("%s is %+v, error %v", k.ID, got, err)
		}
	}
	for _, name := range []string{"", "a", "/", "accounts", "accounts/", "accounts/a", "accounts/a/vpcs/", "accounts/a/vpcs/b/"} {
		if k, err := ParseName(name, resource.KindVPC, ""); err == nil {
			t.Errorf("%q is %+v", name, k)
		}
	}
}

func TestEtags(t *testing.T) {
	v := &resource.VPC{}
	if Etag(v) != "" {
		t.Errorf("what is not kept has the etag %s", Etag(v))
	}
	for _, revision := range []uint64{1, 35, 36, 1<<64 - 1} {
		v.Revision = revision
		if got, err := ParseEtag(Etag(v)); err != nil || got != revision {
			t.Errorf("%s is %d, want %d, error %v", Etag(v), got, revision, err)
		}
	}
	if got, err := ParseEtag(""); got != 0 || err != nil {
		t.Errorf("no etag is %d, error %v", got, err)
	}
	for _, etag := range []string{"1", "r", "r0", "r01", "rA", "r-1", "r+1", "r3w5e11264sgsg"} {
		if got, err := ParseEtag(etag); err == nil {
			t.Errorf("%s is %d", etag, got)
		}
	}
}

func TestUnknownField(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 2000, protowire.VarintType), 1)
	listener := &apiv1.Listener{}
	listener.ProtoReflect().SetUnknown(unknown)
	top := &apiv1.Manifest{Name: "a"}
	top.ProtoReflect().SetUnknown(unknown)
	for _, c := range []struct {
		m    proto.Message
		path string
	}{
		{&apiv1.Manifest{Vpcs: []*apiv1.VPC{{Name: "a"}}}, ""},
		{top, "Manifest"},
		{&apiv1.Manifest{LoadBalancers: []*apiv1.LoadBalancer{{}, {Listeners: []*apiv1.Listener{listener}}}}, "load_balancers[1].listeners[0]"},
	} {
		path, number := UnknownField(c.m)
		if path != c.path || (path != "") != (number == 2000) {
			t.Errorf("found %d in %q, want it in %q", number, path, c.path)
		}
	}
}

func TestDamagedRecords(t *testing.T) {
	lb, err := Marshal(&resource.LoadBalancer{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindLoadBalancer, Account: consumer, ID: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	nameless, _ := Marshal(&resource.LoadBalancer{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindLoadBalancer, Account: consumer}}})
	for name, data := range map[string][]byte{
		"empty": nil, "no protobuf": []byte("hello"), "cut": lb[:len(lb)-1], "nameless": nameless,
		"newer": protowire.AppendVarint(protowire.AppendTag(lb, 2000, protowire.VarintType), 1),
	} {
		if r, err := Unmarshal(data); err == nil {
			t.Errorf("%s: read %+v", name, r)
		}
	}
}

// FuzzUnmarshal looks for panics, and for records that become others when they are written again.
func FuzzUnmarshal(f *testing.F) {
	for _, r := range samples() {
		data, err := Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Unmarshal(data)
		if err != nil {
			return
		}
		out, err := Marshal(r)
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, err := Unmarshal(out)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		again.Metadata().Revision = r.Metadata().Revision
		if diff := cmp.Diff(r, again, sameStates); diff != "" {
			t.Errorf("read -, read again +:\n%s", diff)
		}
	})
}
