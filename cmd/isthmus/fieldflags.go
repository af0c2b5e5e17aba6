// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// fieldFlag is a flag that sets a field of a resource.
type fieldFlag struct {
	name  string
	path  string // of the field
	usage string
	fixed string // what the flag alone stands for; empty: it takes a value
}

// fieldFlags are those of each kind. A flag of a list is given once for each item; an item that is a message of its own is
// given as KEY=VALUE,... or by the values alone, in the order of the schema.
var fieldFlags = map[resource.Kind][]fieldFlag{
	resource.KindAccount: {
		{name: "display-name", path: "display_name", usage: "`name` for people"},
		{name: "zone", path: "zones", usage: "the account's name of a zone, as `NAME=ID`: us-east-1a=use1-az1"},
		{name: "quotas", path: "quotas", usage: "quotas that are not AWS's, as `KEY=N,...`: vpcs=10,endpoints_per_vpc=100"},
	},
	resource.KindVPC: {
		{name: "cidr", path: "cidrs", usage: "`prefix` of the VPC, such as 10.0.0.0/16"},
	},
	resource.KindSubnet: {
		{name: "vpc", path: "vpc", usage: "`VPC` of the subnet"},
		{name: "cidr", path: "cidr", usage: "`prefix` of the subnet, such as 10.0.1.0/24"},
		{name: "zone", path: "zone", usage: "`zone` that it is in, such as use1-az1"},
	},
	resource.KindSecurityGroup: {
		{name: "vpc", path: "vpc", usage: "`VPC` of the group"},
		{name: "description", path: "description", usage: "`text` for people"},
		{name: "ingress", path: "ingress", usage: "`rule`: tcp,80,443,cidrs=[10.0.0.0/8] or -1,group=NAME"},
		{name: "member", path: "members", usage: "`address` or prefix of an interface in the group that is no endpoint"},
	},
	resource.KindTargetGroup: {
		{name: "vpc", path: "vpc", usage: "`VPC` of the targets"},
		{name: "type", path: "type", usage: "`type` of the load balancers that may use it: network or gateway"},
		{name: "target", path: "targets", usage: "`target`: ADDRESS,PORT,ZONE_ID"},
		{name: "proxy-protocol-v2", path: "proxy_protocol_v2", usage: "`PROXY protocol`: true or true,on_first_ack"},
		{name: "health-check", path: "health_check", usage: "`check`: protocol=HTTP,path=/health,interval=10s"},
		{name: "deregistration-delay", path: "deregistration_delay", usage: "how `long` targets drain, 0s to 3600s"},
		{name: "terminate-on-deregistration", path: "terminate_on_deregistration", usage: "end connections when that time has passed"},
		{name: "terminate-on-unhealthy", path: "terminate_on_unhealthy", usage: "answer connections of unhealthy targets with RST"},
		{name: "stickiness", path: "stickiness", usage: "what goes to one appliance: `five_tuple`, source_ip_dest_ip_proto or source_ip_dest_ip"},
		{name: "target-failover", path: "target_failover", usage: "flows of a failed appliance: `no_rebalance` or rebalance"},
		{name: "send-tcp-reset", path: "send_tcp_reset", usage: "`when` such flows are answered with RST: on_unhealthy=true,on_deregistration=true"},
	},
	resource.KindLoadBalancer: {
		{name: "vpc", path: "vpc", usage: "`VPC` of the nodes"},
		{name: "type", path: "type", usage: "`type`: network or gateway"},
		{name: "subnet", path: "nodes", usage: "`subnet` of a node, one a zone: NAME or NAME,ADDRESS"},
		{name: "listener", path: "listeners", usage: "`listener`: PORT,TARGET_GROUP, or target_group=NAME of a gateway load balancer"},
		{name: "cross-zone", path: "cross_zone", usage: "nodes use the targets of all zones"},
		{name: "mtu", path: "mtu", usage: "longest inner packet in `bytes`, of a gateway load balancer"},
	},
	resource.KindEndpointService: {
		{name: "load-balancer", path: "load_balancers", usage: "`load balancer` that is offered"},
		{name: "acceptance-required", path: "acceptance_required", usage: "endpoints wait until they are accepted (the default)"},
		{name: "no-acceptance", path: "acceptance_required", fixed: "false", usage: "endpoints are available at once"},
		{name: "allow", path: "allowed_principals", usage: "`ARN` of a principal that may create endpoints, or *"},
	},
	resource.KindEndpoint: {
		{name: "vpc", path: "vpc", usage: "`VPC` that the endpoint is for"},
		{name: "service", path: "service_name", usage: "`name` of the service: com.amazonaws.vpce.REGION.vpce-svc-..."},
		{name: "type", path: "type", usage: "`type`, if it is not to be that of the service: Interface or GatewayLoadBalancer"},
		{name: "subnet", path: "enis", usage: "`subnet` of the endpoint, one a zone: NAME or NAME,ADDRESS"},
		{name: "security-group", path: "security_groups", usage: "`group` that the endpoint is in"},
		{name: "bandwidth", path: "bandwidth", usage: "`limit` in each zone: rate_bits_per_second=1000000000"},
	},
	resource.KindAttachment: {
		{name: "subnet", path: "subnet", usage: "`subnet` whose ENIs are reached"},
		{name: "netns", path: "netns", usage: "`path` of the namespace, such as /run/netns/consumer"},
		{name: "device", path: "device", usage: "`name` of the interface there"},
		{name: "bridge", path: "bridge", usage: "`bridge` that the interface joins: NAME or NAME,GATEWAY"},
		{name: "netns-address", path: "namespace.addresses", usage: "`address` of the namespace without a bridge: 10.0.1.10/24"},
		{name: "endpoint", path: "endpoint", usage: "Gateway Load Balancer `endpoint` that alone is reached"},
	},
	resource.KindRouteTable: {
		{name: "vpc", path: "vpc", usage: "`VPC` of the routes"},
		{name: "table", path: "table", usage: "`number` of the kernel's routing table; 0 is the main one"},
		{name: "route", path: "routes", usage: "`route`: DESTINATION,ENDPOINT"},
	},
}

// tagFlag is a flag of all kinds.
var tagFlag = fieldFlag{name: "tag", path: "metadata.tags", usage: "tag, as `KEY=VALUE`"}

// fieldValue is a flag of a command that is being parsed.
type fieldValue struct {
	fieldFlag
	field protoreflect.FieldDescriptor
	edits *edits
}

func (v *fieldValue) String() string   { return "" }
func (v *fieldValue) Type() string     { return "value" }
func (v *fieldValue) IsBoolFlag() bool { return v.field.Kind() == protoreflect.BoolKind }

// Set notes the value; whether it is good is seen when all flags are together.
func (v *fieldValue) Set(text string) error {
	if v.fixed != "" {
		if text != "true" {
			return errors.New("takes no value")
		}
		text = v.fixed
	}
	return v.edits.addFlag(v, text)
}

// addFieldFlags adds the flags of a kind to a command. What they say is in the edits.
func addFieldFlags(cmd *cobra.Command, k *kind, a *api) *edits {
	e := &edits{kind: k, root: &yaml.Node{Kind: yaml.MappingNode}, flags: map[string]string{}}
	for _, f := range append(fieldFlags[k.Kind], tagFlag) {
		v := &fieldValue{fieldFlag: f, field: fieldAt(k.message, strings.Split(f.path, ".")), edits: e}
		flag := cmd.Flags().VarPF(v, f.name, "", f.usage)
		if v.IsBoolFlag() {
			flag.NoOptDefVal = "true"
		}
		completeField(cmd, a, f.name, v.field)
	}
	return e
}

// fieldAt is the field that a path leads to.
func fieldAt(d protoreflect.MessageDescriptor, steps []string) protoreflect.FieldDescriptor {
	f := d.Fields().ByName(protoreflect.Name(steps[0]))
	if len(steps) > 1 {
		return fieldAt(f.Message(), steps[1:])
	}
	return f
}

// edits are fields of a resource as flags give them: a document, and which of its fields an update is to change.
type edits struct {
	kind  *kind
	root  *yaml.Node
	paths []string          // of a field mask
	flags map[string]string // by the path of the field
	file  bool              // there is a file as well
}

// addFlag adds what one flag says.
func (e *edits) addFlag(v *fieldValue, text string) error {
	e.flags[v.path] = "--" + v.name
	steps := strings.Split(v.path, ".")
	switch {
	case v.field.IsMap():
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q is not KEY=VALUE", text)
		}
		e.put(append(steps, key), textNode(value))
	case v.field.IsList() && v.field.Message() != nil:
		item, _, err := shorthand(v.field.Message(), text)
		if err != nil {
			return err
		}
		e.append(steps, item)
	case v.field.IsList():
		for part := range strings.SplitSeq(text, ",") {
			e.append(steps, textNode(part))
		}
	case v.field.Message() != nil && v.field.Message().FullName() != "google.protobuf.Duration":
		group, keys, err := shorthand(v.field.Message(), text)
		if err != nil {
			return err
		}
		for i, key := range keys {
			e.put(append(steps, key), group.Content[2*i+1])
		}
	case v.field.Kind() == protoreflect.StringKind:
		e.put(steps, textNode(text))
	default:
		e.put(steps, plainNode(text))
	}
	return nil
}

// decode makes a message of the edits. Its errors name the flags.
func (e *edits) decode(m proto.Message) error {
	if len(e.root.Content) == 0 {
		return nil
	}
	data, err := yaml.Marshal(e.root)
	if err != nil {
		return fmt.Errorf("reading the flags: %w", err)
	}
	err = codec.UnmarshalYAML("flags", data, m)
	if err == nil {
		return nil
	}
	var lines []string
	for _, part := range unjoin(err) {
		var mistake *codec.FileError
		if errors.As(part, &mistake) {
			lines = append(lines, e.at(mistake.Path)+": "+mistake.Problem)
		} else {
			lines = append(lines, part.Error())
		}
	}
	return &exitError{exitUsage, errors.New(strings.Join(lines, "\n  "))}
}

// at names a field by its flag: the one that has given it or, unless a file may have, the one that could.
func (e *edits) at(path string) string {
	inside := strings.TrimPrefix(strings.TrimPrefix(path, strings.ReplaceAll(e.kind.word, "-", "_")), ".")
	for at, flag := range e.flags {
		if name, ok := below(inside, at, flag); ok {
			return name
		}
	}
	for _, f := range fieldFlags[e.kind.Kind] {
		if name, ok := below(inside, f.path, "--"+f.name); ok && !e.file {
			return name
		}
	}
	return fieldName(inside)
}

// below names what is at or below the path of a flag. Which of the items it is, the order says.
func below(path, at, flag string) (string, bool) {
	rest, ok := strings.CutPrefix(path, at)
	switch {
	case !ok || rest != "" && !strings.ContainsAny(rest[:1], ".["):
		return "", false
	case strings.HasPrefix(rest, "["):
		if _, field, nested := strings.Cut(rest, "]."); nested {
			return flag + ": " + field, true
		}
		return flag, true
	case rest != "":
		return flag + ": " + rest[1:], true
	}
	return flag, true
}

// unjoin are the parts of a joined error.
func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
