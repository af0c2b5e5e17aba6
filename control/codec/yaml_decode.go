// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// decoder walks YAML nodes against the descriptor of a message and sets its fields. It goes on after a mistake, so that
// all of them are told at once.
type decoder struct {
	mistakes []*FileError
}

// Messages that YAML has as a single value.
const (
	durationName  protoreflect.FullName = "google.protobuf.Duration"
	timestampName protoreflect.FullName = "google.protobuf.Timestamp"
)

// group says whether a field holds messages that are written as fields of their own.
func group(field protoreflect.FieldDescriptor) bool {
	m := field.Message()
	return m != nil && m.FullName() != durationName && m.FullName() != timestampName
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.mistakes = append(d.mistakes, &FileError{Line: n.Line, Column: n.Column, Path: path, Problem: fmt.Sprintf(format, args...)})
}

// message sets the fields of m from a mapping.
func (d *decoder) message(n *yaml.Node, m protoreflect.Message, path string) {
	if empty(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "is %s; write fields, one a line", describe(n))
		return
	}
	fields := m.Descriptor().Fields()
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fail(key, path, "has %s where the name of a field belongs", describe(key))
			continue
		}
		here := join(path, key.Value)
		field := fields.ByName(protoreflect.Name(key.Value))
		switch {
		case field == nil:
			d.fail(key, here, "unknown field%s", suggest(key.Value, fields))
			continue
		case seen[key.Value]:
			d.fail(key, here, "is there twice; leave one out")
			continue
		}
		seen[key.Value] = true
		if one := field.ContainingOneof(); one != nil && !one.IsSynthetic() {
			if other := m.WhichOneof(one); other != nil {
				d.fail(key, here, "cannot stand beside %s; leave one out", other.Name())
				continue
			}
		}
		d.field(value, m, field, here)
	}
}

// field sets one field of m.
func (d *decoder) field(n *yaml.Node, m protoreflect.Message, field protoreflect.FieldDescriptor, path string) {
	switch {
	case n.Kind == yaml.AliasNode:
		d.fail(n, path, "is an alias; write the value out")
	case field.IsMap():
		d.mapping(n, m, field, path)
	case field.IsList():
		d.list(n, m, field, path)
	case group(field):
		// A message that is named but has no fields is there all the same: tun: alone makes a TUN.
		d.message(n, m.Mutable(field).Message(), path)
	default:
		if v, ok := d.scalar(n, field, path); ok {
			m.Set(field, v)
		}
	}
}

// list appends the items of a sequence to a field of m.
func (d *decoder) list(n *yaml.Node, m protoreflect.Message, field protoreflect.FieldDescriptor, path string) {
	if empty(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "is %s; write a list, each item behind a -", describe(n))
		return
	}
	list := m.Mutable(field).List()
	for i, item := range n.Content {
		here := path + "[" + strconv.Itoa(i) + "]"
		switch {
		case item.Kind == yaml.AliasNode:
			d.fail(item, here, "is an alias; write the value out")
		case group(field):
			d.message(item, list.AppendMutable().Message(), here)
		default:
			if v, ok := d.scalar(item, field, here); ok {
				list.Append(v)
			}
		}
	}
}

// mapping sets the entries of a map with text for keys.
func (d *decoder) mapping(n *yaml.Node, m protoreflect.Message, field protoreflect.FieldDescriptor, path string) {
	if empty(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "is %s; write a name and a value, one pair a line", describe(n))
		return
	}
	entries := m.Mutable(field).Map()
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fail(key, path, "has %s where a name belongs", describe(key))
			continue
		}
		here, name := path+"["+strconv.Quote(key.Value)+"]", protoreflect.ValueOfString(key.Value).MapKey()
		switch {
		case entries.Has(name):
			d.fail(key, here, "is there twice; leave one out")
		case value.Kind == yaml.AliasNode:
			d.fail(value, here, "is an alias; write the value out")
		case group(field.MapValue()):
			d.message(value, entries.Mutable(name).Message(), here)
		default:
			if v, ok := d.scalar(value, field.MapValue(), here); ok {
				entries.Set(name, v)
			}
		}
	}
}

// scalar decodes a single value for a field.
func (d *decoder) scalar(n *yaml.Node, field protoreflect.FieldDescriptor, path string) (protoreflect.Value, bool) {
	none := protoreflect.Value{}
	switch {
	case empty(n):
		d.fail(n, path, "has no value; write one, or leave the field out")
		return none, false
	case n.Kind != yaml.ScalarNode:
		d.fail(n, path, "is %s; write a single value", describe(n))
		return none, false
	case field.Message() != nil && field.Message().FullName() == timestampName:
		return d.timestamp(n, path)
	case field.Message() != nil:
		return d.duration(n, path)
	}
	switch field.Kind() {
	case protoreflect.StringKind:
		// What looks like a number (a hash key of digits only) is text here.
		return protoreflect.ValueOfString(n.Value), true
	case protoreflect.BoolKind:
		if v := n.Value; n.ShortTag() == "!!bool" {
			return protoreflect.ValueOfBool(strings.EqualFold(v, "true")), true
		}
		d.fail(n, path, "%q is neither true nor false", n.Value)
	case protoreflect.Int32Kind:
		if v, err := strconv.ParseInt(n.Value, 10, 32); err == nil {
			return protoreflect.ValueOfInt32(int32(v)), true
		}
		d.fail(n, path, "%q is not a whole number up to %d", n.Value, math.MaxInt32)
	case protoreflect.Uint32Kind:
		if v, err := strconv.ParseUint(n.Value, 10, 32); err == nil {
			return protoreflect.ValueOfUint32(uint32(v)), true
		}
		d.fail(n, path, "%q is not a whole number from 0", n.Value)
	case protoreflect.Uint64Kind:
		if v, err := strconv.ParseUint(n.Value, 10, 64); err == nil {
			return protoreflect.ValueOfUint64(v), true
		}
		d.fail(n, path, "%q is not a whole number from 0", n.Value)
	case protoreflect.EnumKind:
		return d.enum(n, field.Enum(), path)
	default:
		d.fail(n, path, "has the type %s, which a file cannot hold; please report this as a bug", field.Kind())
	}
	return none, false
}

// timestamp decodes a moment.
func (d *decoder) timestamp(n *yaml.Node, path string) (protoreflect.Value, bool) {
	t, err := time.Parse(time.RFC3339Nano, n.Value)
	if err != nil {
		d.fail(n, path, "%q is not a time; write one such as 2026-01-31T12:00:00Z", n.Value)
		return protoreflect.Value{}, false
	}
	return protoreflect.ValueOfMessage(timestamppb.New(t).ProtoReflect()), true
}

// duration decodes a time with its unit.
func (d *decoder) duration(n *yaml.Node, path string) (protoreflect.Value, bool) {
	v, err := time.ParseDuration(n.Value)
	if err == nil {
		return protoreflect.ValueOfMessage(durationpb.New(v).ProtoReflect()), true
	}
	if _, plain := strconv.ParseFloat(n.Value, 64); plain == nil {
		d.fail(n, path, "%q has no unit; write %ss for seconds", n.Value, n.Value)
	} else {
		d.fail(n, path, "%q is not a duration; write a number and a unit, such as 350s or 5m", n.Value)
	}
	return protoreflect.Value{}, false
}

// enum decodes the name of a value, in any case.
func (d *decoder) enum(n *yaml.Node, enum protoreflect.EnumDescriptor, path string) (protoreflect.Value, bool) {
	var names []string
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		if value.Number() == 0 {
			continue // "unspecified" is said by leaving the field out
		}
		name := enumName(value)
		if strings.EqualFold(name, n.Value) {
			return protoreflect.ValueOfEnum(value.Number()), true
		}
		names = append(names, name)
	}
	d.fail(n, path, "%q is not one of %s", n.Value, strings.Join(names, ", "))
	return protoreflect.Value{}, false
}

// awsNames are names of enum values that AWS writes neither as a word in capitals nor as several in lower case.
var awsNames = map[protoreflect.Name]string{
	"LOAD_BALANCER_TYPE_NETWORK":          "network",
	"LOAD_BALANCER_TYPE_GATEWAY":          "gateway",
	"ENDPOINT_TYPE_INTERFACE":             "Interface",
	"ENDPOINT_TYPE_GATEWAY_LOAD_BALANCER": "GatewayLoadBalancer",
	"TARGET_FAILOVER_REBALANCE":           "rebalance",
	"ENDPOINT_STATE_PENDING_ACCEPTANCE":   "pendingAcceptance",
	"ENDPOINT_STATE_PENDING":              "pending",
	"ENDPOINT_STATE_AVAILABLE":            "available",
	"ENDPOINT_STATE_REJECTED":             "rejected",
	"ENDPOINT_STATE_DELETING":             "deleting",
	"ENDPOINT_STATE_DELETED":              "deleted",
	"ENDPOINT_STATE_FAILED":               "failed",
	"ENDPOINT_STATE_EXPIRED":              "expired",
}

// enumName is the name of an enum's value in a file, as AWS has it: without the prefix that protobuf asks for,
// and in lower case where it is more than one word.
func enumName(v protoreflect.EnumValueDescriptor) string {
	if name := awsNames[v.Name()]; name != "" {
		return name
	}
	var prefix strings.Builder
	for i, r := range string(v.Parent().Name()) {
		if i > 0 && r >= 'A' && r <= 'Z' {
			prefix.WriteByte('_')
		}
		prefix.WriteRune(r)
	}
	name := strings.TrimPrefix(string(v.Name()), strings.ToUpper(prefix.String())+"_")
	if strings.Contains(name, "_") {
		return strings.ToLower(name)
	}
	return name
}

// empty says whether a node is a value left out, as in "endpoints:" with nothing behind it.
func empty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// describe says what a node is, for a sentence that says what it should be.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of fields"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if empty(n) {
		return "empty"
	}
	return fmt.Sprintf("the single value %q", n.Value)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
