// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// mask says which fields of a resource an update changes (AIP-134, AIP-161). Fields that only the server sets may be named
// and change nothing: whoever decodes the result ignores them.
type mask struct {
	all   bool // replaces the whole resource: *
	paths [][]string
}

// newMask is the mask of a request or, where it has none, that of the fields that are set in m.
func newMask(m protoreflect.Message, fm *fieldmaskpb.FieldMask) (*mask, error) {
	out := &mask{}
	if len(fm.GetPaths()) == 0 {
		populated(m, nil, &out.paths)
		return out, nil
	}
	for _, path := range fm.GetPaths() {
		if path == "*" {
			if len(fm.Paths) > 1 {
				return nil, invalid("update_mask", "* stands for everything; leave the other paths out")
			}
			return &mask{all: true}, nil
		}
		steps, ok := splitPath(path)
		if !ok {
			return nil, invalid("update_mask", "%q is no path; separate the names of fields by dots, and put keys with dots into backticks", path)
		}
		if problem := checkPath(m.Descriptor(), steps); problem != "" {
			return nil, invalid("update_mask", "%q: %s", path, problem)
		}
		out.paths = append(out.paths, steps)
	}
	return out, nil
}

// splitPath splits at dots that are not in backticks.
func splitPath(path string) (steps []string, ok bool) {
	for {
		var step string
		if quoted, isQuoted := strings.CutPrefix(path, "`"); isQuoted {
			var closed bool
			if step, path, closed = strings.Cut(quoted, "`"); !closed || path != "" && path[0] != '.' {
				return nil, false
			}
		} else {
			end := strings.IndexByte(path, '.')
			if end < 0 {
				end = len(path)
			}
			step, path = path[:end], path[end:]
		}
		if step == "" {
			return nil, false
		}
		steps = append(steps, step)
		if path == "" {
			return steps, true
		}
		path = path[1:]
	}
}

// checkPath says what is wrong with a path; nothing if it leads to a field, or to an entry of a map.
func checkPath(d protoreflect.MessageDescriptor, steps []string) string {
	for i, step := range steps {
		f := d.Fields().ByName(protoreflect.Name(step))
		rest := len(steps) - i - 1
		switch {
		case f == nil:
			return "there is no field " + step
		case rest == 0:
			return ""
		case f.IsMap():
			if rest > 1 {
				return "what is in " + step + " has no fields"
			}
			return ""
		case f.IsList():
			return step + " is a list, which is replaced as a whole"
		case !nested(f):
			return step + " has no fields"
		}
		d = f.Message()
	}
	return ""
}

// nested says whether a field is a message with fields of its own. Those of google.protobuf are values.
func nested(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && !f.IsList() && !f.IsMap() && f.Message().ParentFile().Package() != "google.protobuf"
}

// populated appends the paths of the fields that are set.
func populated(m protoreflect.Message, above []string, paths *[][]string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		here := append(above[:len(above):len(above)], string(f.Name()))
		before := len(*paths)
		if nested(f) {
			populated(v.Message(), here, paths)
		}
		if len(*paths) == before { // a message without fields says something, too: a bridge
			*paths = append(*paths, here)
		}
		return true
	})
}

// apply changes the fields of to that the mask names to those of from.
func (k *mask) apply(to, from protoreflect.Message) {
	if k.all {
		proto.Reset(to.Interface())
		proto.Merge(to.Interface(), from.Interface())
		return
	}
	for _, steps := range k.paths {
		applyPath(to, from, steps)
	}
}

func applyPath(to, from protoreflect.Message, steps []string) {
	f := to.Descriptor().Fields().ByName(protoreflect.Name(steps[0]))
	switch {
	case len(steps) == 1 && from.Has(f):
		to.Set(f, from.Get(f))
	case len(steps) == 1:
		to.Clear(f)
	case f.IsMap():
		key := protoreflect.ValueOfString(steps[1]).MapKey()
		if v := from.Get(f).Map().Get(key); v.IsValid() {
			to.Mutable(f).Map().Set(key, v)
		} else if to.Has(f) {
			to.Mutable(f).Map().Clear(key)
		}
	case from.Has(f) || to.Has(f):
		applyPath(to.Mutable(f).Message(), from.Get(f).Message(), steps[1:])
	}
}
