// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
)

// lines are a plan as text: "create accounts/...", "update accounts/... path: before -> after".
func lines(r *apiv1.ApplyResponse) (out []string) {
	for _, c := range r.GetChanges() {
		action := strings.ToLower(strings.TrimPrefix(c.Action.String(), "APPLY_ACTION_"))
		parts := strings.SplitN(c.Name, "/", 3)
		line := action + " " + parts[len(parts)-1]
		for _, f := range c.Fields {
			line += fmt.Sprintf(" %s: %s -> %s;", f.Path, f.Before, f.After)
		}
		out = append(out, line)
	}
	return out
}

func dryRun(r *apiv1.ApplyRequest) { r.DryRun = true }
func prune(r *apiv1.ApplyRequest)  { r.Prune = true }

func TestApply(t *testing.T) {
	b := newBed(t)
	p := b.as(provider)
	before := b.keeper.Status().Desired
	created := []string{
		"create vpcs/shop", "create subnets/a", "create securityGroups/instances", "create targetGroups/web", "create loadBalancers/front",
		"create endpointServices/payments", "create attachments/a", "create routeTables/main",
	}
	plan, err := p.apply(t, providerManifest, dryRun)
	b.must(err)
	if diff := cmp.Diff(created, lines(plan)); diff != "" || plan.Revision != 0 || b.keeper.Status().Desired != before {
		t.Fatalf("planned (revision %d): %s", plan.Revision, diff)
	}
	done, err := p.apply(t, providerManifest)
	b.must(err)
	if diff := cmp.Diff(created, lines(done)); diff != "" || done.Revision != before+1 {
		t.Fatalf("done (revision %d): %s", done.Revision, diff)
	}
	again, err := p.apply(t, providerManifest)
	b.must(err)
	if again.Revision != done.Revision {
		t.Errorf("applied again, revision %d is written", again.Revision)
	}
	for _, line := range lines(again) {
		if !strings.HasPrefix(line, "none ") {
			t.Errorf("applied again: %s", line)
		}
	}
}

func TestApplyUpdatesAndPrunes(t *testing.T) {
	b := newBed(t)
	p := b.as(provider)
	_, err := p.apply(t, providerManifest)
	b.must(err)
	_, err = p.CreateVPC(p.ctx, &apiv1.CreateVPCRequest{VpcId: "by-hand", Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}})
	b.must(err)
	const changed = `
name: provider
vpcs: [{name: shop, cidrs: [10.0.0.0/16], metadata: {tags: {env: test}}}]
subnets: [{name: a, vpc: shop, cidr: 10.0.1.0/24, zone: use1-az1}]
target_groups: [{name: web, vpc: shop, deregistration_delay: 60s, targets: [{address: 10.0.1.100, port: 8080, zone_id: use1-az1}, {address: 10.0.1.101, port: 8080, zone_id: use1-az1}]}]
load_balancers: [{name: front, vpc: shop, cross_zone: true, nodes: [{subnet: a}], listeners: [{port: 443, target_group: web}]}]
attachments: [{name: a, subnet: a, netns: /run/netns/provider, namespace: {addresses: [10.0.1.100/24]}}]
`
	want := []string{
		"update vpcs/shop metadata.tags.env:  -> test;",
		"none subnets/a",
		"update targetGroups/web deregistration_delay: 300s -> 60s; targets[1]:  -> - address: 10.0.1.101\n    port: 8080\n    zone_id: use1-az1;",
		"update loadBalancers/front cross_zone:  -> true; listeners[0].port: 80 -> 443;",
		"none attachments/a",
		"delete routeTables/main", "delete endpointServices/payments", "delete securityGroups/instances",
	}
	plan, err := p.apply(t, changed, dryRun, prune)
	b.must(err)
	if diff := cmp.Diff(want, lines(plan)); diff != "" {
		t.Errorf("planned: %s", diff)
	}
	done, err := p.apply(t, changed, prune)
	b.must(err)
	if diff := cmp.Diff(want, lines(done)); diff != "" {
		t.Errorf("done: %s", diff)
	}
	got, err := p.GetVPC(p.ctx, &apiv1.GetVPCRequest{Name: "by-hand"})
	b.must(err)
	// Whoever writes it into a manifest has it kept by that.
	adopted, err := p.apply(t, "name: other\nvpcs: [{name: by-hand, cidrs: [10.0.0.0/16]}]")
	b.must(err)
	if diff := cmp.Diff([]string{"update vpcs/by-hand metadata.manifest:  -> other;"}, lines(adopted)); diff != "" || got.Metadata.Manifest != "" {
		t.Error(diff)
	}
}

func TestApplyIsAllOrNothing(t *testing.T) {
	b := newBed(t)
	p := b.as(provider)
	before := b.keeper.Status().Desired
	_, err := p.apply(t, `
vpcs: [{name: good, cidrs: [10.0.0.0/16]}]
subnets: [{name: a, vpc: good, cidr: 10.0.1.0/24, zone: use1-az1}, {name: b, vpc: none, cidr: 10.0.1.0/24, zone: use1-az1}, {name: c, vpc: good, cidr: 10.9.1.0/24, zone: use1-az1}]
endpoint_services: [{name: later, load_balancers: [none]}]
`)
	var fields []string
	for _, v := range detail[*errdetails.BadRequest](err).GetFieldViolations() {
		fields = append(fields, v.Field)
	}
	if diff := cmp.Diff([]string{"manifest.subnets[1].vpc", "manifest.subnets[2].cidr"}, fields); diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	for name, text := range map[string]string{
		"no names":        "vpcs: [{cidrs: [10.0.0.0/16]}]",
		"twice":           "vpcs: [{name: a, cidrs: [10.0.0.0/16]}, {name: a, cidrs: [10.0.0.0/16]}]",
		"not an address":  "vpcs: [{name: a, cidrs: [ten]}]",
		"a stale etag":    "vpcs: [{name: a, cidrs: [10.0.0.0/16], metadata: {etag: x}}]",
		"its own name":    "name: a/b\nvpcs: [{name: a, cidrs: [10.0.0.0/16]}]",
		"its own account": "account: me\nvpcs: [{name: a, cidrs: [10.0.0.0/16]}]",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.apply(t, text)
			refused(t, err, codes.InvalidArgument, "")
			if len(detail[*errdetails.BadRequest](err).GetFieldViolations()) == 0 {
				t.Errorf("%v has no field", err)
			}
		})
	}
	_, err = p.apply(t, "vpcs: []", prune)
	refused(t, err, codes.InvalidArgument, "INVALID_REQUEST")
	if now := b.keeper.Status().Desired; now != before {
		t.Errorf("revision %d has become %d", before, now)
	}
}

func TestApplyOfOthers(t *testing.T) {
	b := newBed(t)
	p, op := b.as(provider), b.as(root)
	for _, text := range []string{
		"account: \"222222222222\"\nvpcs: [{name: a, cidrs: [10.0.0.0/16]}]",
		"vpcs: [{name: accounts/222222222222/vpcs/a, cidrs: [10.0.0.0/16]}]",
		"accounts: [{name: accounts/444444444444}]",
	} {
		_, err := p.apply(t, text)
		refused(t, err, codes.PermissionDenied, "")
		_, err = op.apply(t, text)
		b.must(err)
	}
	// A manifest of an account's is not taken for an operator's of the same name.
	_, err := p.apply(t, "name: same\nvpcs: [{name: mine, cidrs: [10.0.0.0/16]}]")
	b.must(err)
	_, err = op.apply(t, "name: same\nvpcs: [{name: accounts/222222222222/vpcs/theirs, cidrs: [10.0.0.0/16]}]")
	b.must(err)
	pruned, err := op.apply(t, "name: same", prune)
	b.must(err)
	if diff := cmp.Diff([]string{"delete vpcs/theirs"}, lines(pruned)); diff != "" {
		t.Error(diff)
	}
}

func TestApplyOfGroupsInACircle(t *testing.T) {
	b := newBed(t)
	p := b.as(provider)
	const text = `
vpcs: [{name: v, cidrs: [10.0.0.0/16]}]
security_groups:
- {name: a, vpc: v, ingress: [{protocol: "-1", group: b}]}
- {name: b, vpc: v, ingress: [{protocol: "-1", group: a}]}
`
	for _, want := range [][]string{{"create vpcs/v", "create securityGroups/a", "create securityGroups/b"}, {"none vpcs/v", "none securityGroups/a", "none securityGroups/b"}} {
		got, err := p.apply(t, text)
		b.must(err)
		if diff := cmp.Diff(want, lines(got)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestApplyOfEndpointsWithTheirService(t *testing.T) {
	b := newBed(t)
	op := b.as(root)
	text := strings.ReplaceAll(providerManifest, "name: provider", "name: all\naccount: \""+providerAccount+"\"") +
		"endpoints: [{name: own, vpc: shop, service_name: accounts/111111111111/endpointServices/payments, enis: [{subnet: a}]}]"
	_, err := op.apply(t, text)
	b.must(err)
	again, err := op.apply(t, text)
	b.must(err)
	for _, line := range lines(again) {
		if !strings.HasPrefix(line, "none ") {
			t.Errorf("applied again: %s", line)
		}
	}
	_, err = b.as(stranger).apply(t, "endpoints: [{name: x, vpc: v, service_name: accounts/111111111111/endpointServices/payments}]")
	refused(t, err, codes.NotFound, "")
	_, err = b.as(consumer).apply(t, strings.ReplaceAll(consumerManifest, "SERVICE", "accounts/111111111111/endpointServices/payments"))
	b.must(err) // it is among the allowed principals
	if e := b.endpoint(); !strings.HasPrefix(e.ServiceName, "com.amazonaws.vpce.") {
		t.Errorf("the endpoint is for %s", e.ServiceName)
	}
}

func TestApplyThatComesAgain(t *testing.T) {
	b := newBed(t)
	p := b.as(provider)
	id := func(r *apiv1.ApplyRequest) { r.RequestId = "one" }
	first, err := p.apply(t, providerManifest, id)
	b.must(err)
	again, err := p.apply(t, providerManifest, id)
	b.must(err)
	if again.Revision != first.Revision || len(again.Changes) != len(first.Changes) {
		t.Errorf("applied %v, then %v", first, again)
	}
}

// The table of outputs is what the comments of the schema say.
func TestOutputOnly(t *testing.T) {
	data, err := os.ReadFile("../api/v1/resources.proto")
	if err != nil {
		t.Fatal(err)
	}
	field := regexp.MustCompile(`^  (?:repeated |optional )?([\w.<>, ]+) (\w+) = \d+;`)
	want := map[protoreflect.FullName]bool{}
	message, comment, typ, output := "", "", "", false
	for _, line := range strings.Split(string(data), "\n") {
		switch {
		case strings.HasPrefix(line, "message "):
			message, comment, output = strings.Fields(line)[1], "", false
		case strings.HasPrefix(line, "  // "):
			comment += line[len("  // "):] + " "
		case field.MatchString(line):
			// A comment goes for the fields of one type that follow it.
			found := field.FindStringSubmatch(line)
			if comment != "" || found[1] != typ {
				output = strings.HasPrefix(comment, "Output only")
			}
			comment, typ = "", found[1]
			if output {
				want[protoreflect.FullName("isthmus.v1."+message+"."+found[2])] = true
			}
		}
	}
	if diff := cmp.Diff(want, outputOnly); diff != "" {
		t.Error(diff)
	}
}

// manyResources is as much as one file should have: services of ten targets each in two of ten groups, and endpoints.
func manyResources(services, endpoints int) *apiv1.Manifest {
	m := &apiv1.Manifest{Name: "many", Account: providerAccount}
	m.Accounts = []*apiv1.Account{{Name: "accounts/" + providerAccount, Quotas: &apiv1.Quotas{
		Vpcs: 1000, SubnetsPerVpc: 1000, EndpointsPerVpc: 10000, LoadBalancers: 10000, TargetGroups: 10000, EndpointServices: 10000,
	}}}
	zone := "use1-az1"
	m.Vpcs = []*apiv1.VPC{{Name: "v", Cidrs: []string{"10.0.0.0/8"}}}
	m.Subnets = []*apiv1.Subnet{{Name: "nodes", Vpc: "v", Cidr: "10.0.0.0/16", Zone: zone}, {Name: "clients", Vpc: "v", Cidr: "10.1.0.0/16", Zone: zone}}
	m.Attachments = []*apiv1.Attachment{
		{Name: "n", Subnet: "nodes", Netns: "/run/netns/n", Kind: &apiv1.Attachment_Namespace{Namespace: &apiv1.NamespaceAttachment{}}},
		{Name: "c", Subnet: "clients", Netns: "/run/netns/c", Kind: &apiv1.Attachment_Namespace{Namespace: &apiv1.NamespaceAttachment{}}},
	}
	for i := range services {
		name := fmt.Sprintf("s%d", i)
		g := &apiv1.TargetGroup{Name: name, Vpc: "v"}
		for j := range 50 {
			n := i*50 + j
			g.Targets = append(g.Targets, &apiv1.Target{Address: fmt.Sprintf("10.2.%d.%d", n/250, 1+n%250), Port: 80, ZoneId: zone})
		}
		m.TargetGroups = append(m.TargetGroups, g)
		m.LoadBalancers = append(m.LoadBalancers, &apiv1.LoadBalancer{Name: name, Vpc: "v", Nodes: []*apiv1.SubnetAddress{{Subnet: "nodes"}},
			Listeners: []*apiv1.Listener{{Port: 80, TargetGroup: name}}})
		m.EndpointServices = append(m.EndpointServices, &apiv1.EndpointService{Name: name, LoadBalancers: []string{name}, AcceptanceRequired: proto.Bool(false)})
	}
	for i := range endpoints {
		m.Endpoints = append(m.Endpoints, &apiv1.Endpoint{Name: fmt.Sprintf("e%d", i), Vpc: "v",
			ServiceName: fmt.Sprintf("accounts/%s/endpointServices/s%d", providerAccount, i%services), Enis: []*apiv1.SubnetAddress{{Subnet: "clients"}}})
	}
	return m
}

func TestApplyOfALargeFile(t *testing.T) {
	b := newBed(t)
	op := b.as(root)
	m := manyResources(200, 1000)
	began := time.Now()
	done, err := op.Apply(op.ctx, &apiv1.ApplyRequest{Manifest: m})
	b.must(err)
	first := time.Since(began)
	began = time.Now()
	again, err := op.Apply(op.ctx, &apiv1.ApplyRequest{Manifest: m})
	b.must(err)
	t.Logf("%d resources in %d bytes: %s; again: %s; the plan has %d bytes", len(done.Changes), proto.Size(m), first, time.Since(began), proto.Size(done))
	if again.Changes[500].Action != apiv1.ApplyAction_APPLY_ACTION_NONE {
		t.Errorf("applied again: %v", again.Changes[500])
	}
	if size := proto.Size(m); size > maxManifest/4 {
		t.Errorf("the manifest has %d bytes of %d", size, maxManifest)
	}
}

func TestExportAndImport(t *testing.T) {
	b := newBed(t)
	b.both()
	p := b.as(provider)
	_, err := p.AcceptConnections(p.ctx, &apiv1.AcceptConnectionsRequest{Service: "payments", EndpointUids: []string{b.endpoint().Metadata.Uid}})
	b.must(err)
	b.becomes(apiv1.EndpointState_ENDPOINT_STATE_AVAILABLE)
	_, err = p.DeregisterTargets(p.ctx, &apiv1.DeregisterTargetsRequest{Name: "web", Targets: []*apiv1.Target{{Address: "10.0.1.100", Port: 8080}}})
	b.must(err)
	exported := b.export(root)
	if len(exported.Accounts) != 3 || len(exported.Endpoints) != 1 || len(exported.TargetGroups[0].DrainingTargets) != 1 {
		t.Fatalf("exported %v", exported)
	}
	if own := b.export(provider); len(own.Accounts) != 1 || len(own.Endpoints) != 0 || len(own.EndpointServices) != 1 {
		t.Errorf("a provider exports %v", own)
	}
	// It comes through YAML as well.
	text, err := codec.MarshalYAML(exported)
	b.must(err)
	read := &apiv1.Manifest{}
	b.must(codec.UnmarshalYAML("export.yaml", text, read))

	other := &bed{t: t, store: newStore(t), dataplane: &dataplane{}}
	other.start()
	t.Cleanup(other.stop)
	op := other.as(root)
	in, err := op.Import(op.ctx)
	b.must(err)
	b.must(in.Send(&apiv1.ImportRequest{Manifest: read}))
	got, err := in.CloseAndRecv()
	b.must(err)
	if got.Revision != 1 || got.Resources == 0 {
		t.Errorf("imported %v", got)
	}
	other.becomes(apiv1.EndpointState_ENDPOINT_STATE_AVAILABLE)
	if diff := cmp.Diff(exported, other.export(root), protocmp.Transform(), protocmp.IgnoreFields(&apiv1.Metadata{}, "revision", "etag")); diff != "" {
		t.Error(diff)
	}
	// An import into what is there already is refused.
	in, err = op.Import(op.ctx)
	b.must(err)
	b.must(in.Send(&apiv1.ImportRequest{Manifest: read}))
	_, err = in.CloseAndRecv()
	refused(t, err, codes.AlreadyExists, "RESOURCE_EXISTS")
	// Whoever applies an export instead changes nothing.
	plan, err := b.as(root).Apply(op.ctx, &apiv1.ApplyRequest{Manifest: read, DryRun: true})
	if err == nil {
		for _, line := range lines(plan) {
			if !strings.HasPrefix(line, "none ") {
				t.Errorf("an export applied: %s", line)
			}
		}
	}
}

// export is everything that a caller exports.
func (b *bed) export(uid uint32) *apiv1.Manifest {
	b.t.Helper()
	c := b.as(uid)
	out, err := c.Export(c.ctx, &apiv1.ExportRequest{})
	b.must(err)
	all := &apiv1.Manifest{}
	for {
		part, err := out.Recv()
		if err != nil {
			return all
		}
		proto.Merge(all, part.Manifest)
	}
}
