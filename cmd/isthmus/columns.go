// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// column is one of a table: the value of a field, by its path. Lists on the way are gone through.
type column struct{ title, path string }

// columns are those of each kind between the name and what all kinds have; wide ones come with -o wide.
var columns = map[resource.Kind]struct{ short, wide []column }{
	resource.KindAccount: {
		[]column{{"DISPLAY NAME", "display_name"}, {"ZONES", "zones"}}, nil,
	},
	resource.KindVPC: {
		[]column{{"CIDRS", "cidrs"}}, []column{{"DEFAULT GROUP", "default_security_group"}},
	},
	resource.KindSubnet: {
		[]column{{"VPC", "vpc"}, {"CIDR", "cidr"}, {"ZONE", "zone"}}, []column{{"ZONE ID", "zone_id"}},
	},
	resource.KindSecurityGroup: {
		[]column{{"VPC", "vpc"}, {"RULES", "ingress"}, {"DESCRIPTION", "description"}}, []column{{"MEMBERS", "members"}, {"DEFAULT", "default"}},
	},
	resource.KindTargetGroup: {
		[]column{{"VPC", "vpc"}, {"TARGETS", "targets"}, {"HEALTH", "targets.health"}, {"DRAINING", "draining_targets"}},
		[]column{{"TYPE", "type"}, {"CHECK", "health_check.protocol"}, {"DELAY", "deregistration_delay"}},
	},
	resource.KindLoadBalancer: {
		[]column{{"TYPE", "type"}, {"VPC", "vpc"}, {"PORTS", "listeners.port"}, {"TARGET GROUPS", "listeners.target_group"}, {"ADDRESSES", "nodes.address"}},
		[]column{{"ZONES", "nodes.zone_id"}, {"CROSS ZONE", "cross_zone"}, {"MTU", "mtu"}},
	},
	resource.KindEndpointService: {
		[]column{{"SERVICE NAME", "service_name"}, {"TYPE", "type"}, {"LOAD BALANCERS", "load_balancers"}, {"ACCEPTANCE", "acceptance_required"}},
		[]column{{"ZONES", "zone_ids"}, {"ALLOWED", "allowed_principals"}},
	},
	resource.KindEndpoint: {
		[]column{{"STATE", "state"}, {"TYPE", "type"}, {"VPC", "vpc"}, {"ADDRESSES", "enis.address"}, {"SERVICE", "service_name"}},
		[]column{{"ZONES", "enis.zone_id"}, {"SUBNETS", "enis.subnet"}, {"SECURITY GROUPS", "security_groups"}, {"REASON", "state_reason"}},
	},
	resource.KindAttachment: {
		[]column{{"SUBNET", "subnet"}, {"NETNS", "netns"}, {"DEVICE", "device"}, {"BRIDGE", "bridge.name"}, {"OPEN", "open"}},
		[]column{{"ADDRESSES", "namespace.addresses"}, {"GATEWAY", "bridge.gateway"}, {"ENDPOINT", "endpoint"}},
	},
	resource.KindRouteTable: {
		[]column{{"VPC", "vpc"}, {"TABLE", "table"}, {"DESTINATIONS", "routes.destination"}, {"ENDPOINTS", "routes.endpoint"}}, nil,
	},
}

// general are the columns that all kinds have at the end of wide tables.
var general = []column{
	{"UID", "metadata.uid"}, {"REVISION", "metadata.revision"}, {"APPLIED", "metadata.applied_revision"}, {"CREATED", "metadata.create_time"}, {"TAGS", "metadata.tags"},
}

// printObjects writes a table for each kind, and what is wrong below it. Accounts are named where there are several.
func printObjects(w io.Writer, list []object, wide bool) {
	several := slices.ContainsFunc(list, func(o object) bool { return accountOf(o.GetName()) != accountOf(list[0].GetName()) })
	of := map[*kind][]object{}
	for _, o := range list {
		k := kindOf(o.ProtoReflect())
		of[k] = append(of[k], o)
	}
	first := true
	for _, k := range kinds() {
		if len(of[k]) == 0 {
			continue
		}
		if !first {
			fmt.Fprintln(w)
		}
		first = false
		printKind(w, k, of[k], wide, several && k.Kind != resource.KindAccount)
	}
}

func printKind(w io.Writer, k *kind, list []object, wide, accounts bool) {
	shown := columns[k.Kind].short
	if wide {
		shown = slices.Concat(shown, columns[k.Kind].wide, general)
	}
	var head []any
	if accounts {
		head = append(head, "ACCOUNT")
	}
	head = append(head, strings.ToUpper(strings.ReplaceAll(k.word, "-", " ")))
	for _, c := range shown {
		head = append(head, c.title)
	}
	t := newTable(w, head...)
	for _, o := range list {
		var cells []any
		if accounts {
			cells = append(cells, accountOf(o.GetName()))
		}
		cells = append(cells, idOf(o.GetName()))
		for _, c := range shown {
			cells = append(cells, at(o, c.path))
		}
		t.row(cells...)
	}
	t.done()
	for _, o := range list {
		if problem := o.GetMetadata().GetProblem(); problem != "" {
			fmt.Fprintf(w, "  %s: %s\n", idOf(o.GetName()), problem)
		}
	}
}

// at is the text of the values that a path leads to.
func at(o object, path string) string {
	return strings.Join(collect(o.ProtoReflect(), strings.Split(path, "."), accountOf(o.GetName())), ",")
}

// collect goes along a path. Of messages at its end it says how many they are.
func collect(m protoreflect.Message, steps []string, account string) (texts []string) {
	f := m.Descriptor().Fields().ByName(protoreflect.Name(steps[0]))
	if len(steps) == 1 {
		if text := fieldText(m, f, account); text != "" {
			texts = append(texts, text)
		}
		return texts
	}
	if !f.IsList() {
		return collect(m.Get(f).Message(), steps[1:], account)
	}
	list := m.Get(f).List()
	for i := range list.Len() {
		texts = append(texts, collect(list.Get(i).Message(), steps[1:], account)...)
	}
	return texts
}

// fieldText is the text of a field; empty if it is not set, but for what is said by zero.
func fieldText(m protoreflect.Message, f protoreflect.FieldDescriptor, account string) string {
	switch {
	case f.IsMap():
		return mapText(m.Get(f).Map())
	case f.IsList():
		return listText(f, m.Get(f).List(), account)
	case f.Kind() == protoreflect.BoolKind:
		return strconv.FormatBool(m.Get(f).Bool())
	case !m.Has(f):
		return ""
	}
	return valueText(f, m.Get(f), account)
}

// valueText is the text of a single value. What the same account owns is named by its id.
func valueText(f protoreflect.FieldDescriptor, v protoreflect.Value, account string) string {
	if f.Message() != nil {
		if t, ok := v.Message().Interface().(*timestamppb.Timestamp); ok {
			return timeText(t)
		}
	}
	text := codec.Text(f, v)
	if id, ours := strings.CutPrefix(text, "accounts/"+account+"/"); ours {
		return idOf(id)
	}
	return text
}

func listText(f protoreflect.FieldDescriptor, list protoreflect.List, account string) string {
	if f.Message() != nil {
		return strconv.Itoa(list.Len())
	}
	texts := make([]string, list.Len())
	for i := range texts {
		texts[i] = valueText(f, list.Get(i), account)
	}
	return strings.Join(texts, ",")
}

func mapText(entries protoreflect.Map) string {
	var texts []string
	entries.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		texts = append(texts, k.String()+"="+v.String())
		return true
	})
	slices.Sort(texts)
	return strings.Join(texts, ",")
}

// enumText is the name of an enum's value as YAML has it.
func enumText(e protoreflect.Enum) string { return codec.EnumText(e.Descriptor(), e.Number()) }

// enumWords are the names of an enum's values.
func enumWords(d protoreflect.EnumDescriptor) (words []string) {
	for i := 1; i < d.Values().Len(); i++ {
		words = append(words, codec.EnumText(d, d.Values().Get(i).Number()))
	}
	return words
}
