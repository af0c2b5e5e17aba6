// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// messageNode writes the fields of a message that are set, in the order of the schema.
func messageNode(m protoreflect.Message) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) {
			continue
		}
		value := m.Get(field)
		var v *yaml.Node
		switch {
		case field.IsMap():
			v = mapNode(field, value.Map())
		case field.IsList():
			v = listNode(field, value.List())
		default:
			v = valueNode(field, value)
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: string(field.Name())}, v)
	}
	return n
}

// mapNode writes the entries of a map in the order of their keys.
func mapNode(field protoreflect.FieldDescriptor, entries protoreflect.Map) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	var keys []protoreflect.MapKey
	entries.Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, key)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
	for _, key := range keys {
		name := &yaml.Node{}
		name.SetString(key.String())
		n.Content = append(n.Content, name, valueNode(field.MapValue(), entries.Get(key)))
	}
	return n
}

// listNode writes messages one below the other, single values on one line.
func listNode(field protoreflect.FieldDescriptor, list protoreflect.List) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	if field.Message() == nil {
		n.Style = yaml.FlowStyle
	}
	for i := range list.Len() {
		n.Content = append(n.Content, valueNode(field, list.Get(i)))
	}
	return n
}

// Text is how YAML has a single value of a field: an enum's by the name that AWS gives it, a duration with its unit. It is
// empty for a message with fields of its own.
func Text(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	return valueNode(field, value).Value
}

func valueNode(field protoreflect.FieldDescriptor, value protoreflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode}
	switch {
	case group(field):
		return messageNode(value.Message())
	case field.Message() != nil:
		n.Value = momentText(value.Message().Interface())
	case field.Kind() == protoreflect.EnumKind:
		n.Value = EnumText(field.Enum(), value.Enum())
	case field.Kind() == protoreflect.StringKind:
		n.SetString(value.String())
	default:
		n.Value = value.String()
	}
	return n
}

// momentText writes a duration or a point in time.
func momentText(m protoreflect.ProtoMessage) string {
	if t, ok := m.(*timestamppb.Timestamp); ok {
		return t.AsTime().Format(time.RFC3339Nano)
	}
	return durationText(m.(*durationpb.Duration).AsDuration())
}

// EnumText is the name that a file has for an enum's value or, if this program does not know it, the number.
func EnumText(enum protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	if v := enum.Values().ByNumber(n); v != nil {
		return enumName(v)
	}
	return strconv.Itoa(int(n))
}

// durationText writes a duration in seconds, exactly.
func durationText(d time.Duration) string {
	whole, rest := d/time.Second, d%time.Second
	if rest == 0 {
		return strconv.FormatInt(int64(whole), 10) + "s"
	}
	if d < 0 {
		return d.String()
	}
	return strings.TrimRight(fmt.Sprintf("%d.%09d", whole, rest), "0") + "s"
}
