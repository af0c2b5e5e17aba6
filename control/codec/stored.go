// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Marshal is a resource as a record of the store: all of it but its revision, which is the record's.
func Marshal(r resource.Resource) ([]byte, error) {
	m, err := Wrap(Encode(r))
	if err != nil {
		return nil, err
	}
	meta := metadataOf(m)
	meta.Revision, meta.Etag = 0, ""
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing the record of %s: %w", Name(r.Metadata().Key), err)
	}
	return data, nil
}

// Unmarshal is the inverse of Marshal. A record with a field that this program does not know is an error, because it
// would be lost when the record is written again.
func Unmarshal(data []byte) (resource.Resource, error) {
	record := &apiv1.Resource{}
	if err := proto.Unmarshal(data, record); err != nil {
		return nil, fmt.Errorf("reading a record: %w", err)
	}
	if path, number := UnknownField(record); path != "" {
		return nil, fmt.Errorf("reading a record: %s has the field %d, which a newer isthmus has written; run that one", path, number)
	}
	m := Unwrap(record)
	if m == nil {
		return nil, errors.New("reading a record: it holds no resource")
	}
	r, err := Decode(m, DecodeOptions{Outputs: true})
	if err != nil {
		return nil, fmt.Errorf("reading a record: %w", err)
	}
	if r.Metadata().ID == "" {
		return nil, errors.New("reading a record: it holds a resource without a name")
	}
	return r, nil
}

func metadataOf(m *apiv1.Resource) *apiv1.Metadata {
	return Unwrap(m).(interface{ GetMetadata() *apiv1.Metadata }).GetMetadata()
}

// UnknownField finds a field that the schema of this program does not have: the path of the message that has it (its
// type's name for m itself) and its number. The path is empty if there is none.
func UnknownField(m proto.Message) (path string, number int32) {
	message := m.ProtoReflect()
	path, number = unknownField(message, "")
	if path == "" && number != 0 {
		path = string(message.Descriptor().Name())
	}
	return path, number
}

// unknownField returns the number 0 if there is none.
func unknownField(m protoreflect.Message, path string) (string, int32) {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		number, _, _ := protowire.ConsumeTag(unknown)
		return path, int32(number)
	}
	var where string
	var number int32
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		here := join(path, string(f.Name()))
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				where, number = unknownField(v.Message(), fmt.Sprintf("%s[%q]", here, k.String()))
				return number == 0
			})
		case f.IsMap(), f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				if where, number = unknownField(v.List().Get(i).Message(), fmt.Sprintf("%s[%d]", here, i)); number != 0 {
					break
				}
			}
		default:
			where, number = unknownField(v.Message(), here)
		}
		return number == 0
	})
	return where, number
}
