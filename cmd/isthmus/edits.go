// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// textNode is a value that is text whatever it looks like; plainNode one that YAML may take for a number or a bool.
func textNode(text string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(text)
	return n
}

func plainNode(text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: text} }

// put sets the field at a path, and notes that an update is to change it.
func (e *edits) put(steps []string, value *yaml.Node) {
	e.note(steps)
	*child(e.root, steps) = *value
}

// append adds an item to the list at a path.
func (e *edits) append(steps []string, item *yaml.Node) {
	e.note(steps)
	list := child(e.root, steps)
	list.Kind = yaml.SequenceNode
	list.Content = append(list.Content, item)
}

// note adds a path to the field mask.
func (e *edits) note(steps []string) {
	if path := maskPath(steps); !slices.Contains(e.paths, path) {
		e.paths = append(e.paths, path)
	}
}

// maskPath joins steps as field masks have them: with keys that have dots in backticks.
func maskPath(steps []string) string {
	quoted := make([]string, len(steps))
	for i, step := range steps {
		if quoted[i] = step; strings.Contains(step, ".") {
			quoted[i] = "`" + step + "`"
		}
	}
	return strings.Join(quoted, ".")
}

// splitMask is the inverse of maskPath.
func splitMask(path string) ([]string, error) {
	var steps []string
	for rest := path; ; {
		var step string
		if quoted, ok := strings.CutPrefix(rest, "`"); ok {
			if step, rest, ok = strings.Cut(quoted, "`"); !ok {
				return nil, fmt.Errorf("%q has a backtick that is not closed", path)
			}
			rest = strings.TrimPrefix(rest, ".")
		} else {
			step, rest, _ = strings.Cut(rest, ".")
		}
		if step == "" {
			return nil, fmt.Errorf("%q is no path; separate the names of fields by dots", path)
		}
		if steps = append(steps, step); rest == "" {
			return steps, nil
		}
	}
}

// child is the node at a path below a mapping, which is made if it is not there.
func child(n *yaml.Node, steps []string) *yaml.Node {
	for _, step := range steps {
		n.Kind = yaml.MappingNode
		i := 0
		for i < len(n.Content) && n.Content[i].Value != step {
			i += 2
		}
		if i == len(n.Content) {
			n.Content = append(n.Content, textNode(step), &yaml.Node{})
		}
		n = n.Content[i+1]
	}
	return n
}

// set is --set PATH=VALUE, with the value in YAML.
func (e *edits) set(text string) error {
	path, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("--set %s: write PATH=VALUE, such as health_check.interval=10s or security_groups=[a,b]", text)
	}
	steps, err := splitMask(path)
	if err != nil {
		return fmt.Errorf("--set %s: %w", text, err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(value), &doc); err != nil {
		return fmt.Errorf("--set %s: the value is no YAML: %w", text, err)
	}
	node := textNode(value)
	if len(doc.Content) == 1 {
		node = doc.Content[0]
	}
	e.flags[path] = "--set " + path
	e.put(steps, node)
	return nil
}

// unset is --unset PATH.
func (e *edits) unset(path string) error {
	steps, err := splitMask(path)
	if err != nil {
		return fmt.Errorf("--unset %s: %w", path, err)
	}
	e.flags[path] = "--unset " + path
	e.note(steps)
	return nil
}

// shorthand makes a mapping of KEY=VALUE,... Values without a key are those of the fields in the order of the schema. A
// value in brackets is a list. The keys are in the order of the mapping.
func shorthand(d protoreflect.MessageDescriptor, text string) (*yaml.Node, []string, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	var keys []string
	for i, part := range splitOutside(text) {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			if i >= d.Fields().Len() || len(keys) < i {
				return nil, nil, fmt.Errorf("%q: what does %q stand for? Write KEY=VALUE", text, part)
			}
			key, value = string(d.Fields().Get(i).Name()), part
		}
		f := d.Fields().ByName(protoreflect.Name(key))
		keys = append(keys, key)
		n.Content = append(n.Content, textNode(key), shorthandValue(f, value))
	}
	return n, keys, nil
}

// shorthandValue is the value of one key; the field is nil if there is none of its name.
func shorthandValue(f protoreflect.FieldDescriptor, value string) *yaml.Node {
	if f == nil || f.Kind() != protoreflect.StringKind {
		return plainNode(value)
	}
	if !f.IsList() {
		return textNode(value)
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(value, "["), "]"), ",") {
		list.Content = append(list.Content, textNode(part))
	}
	return list
}

// splitOutside splits at commas that are not in brackets.
func splitOutside(text string) []string {
	var parts []string
	depth, from := 0, 0
	for i, r := range text {
		switch r {
		case '[':
			depth++
		case ']':
			depth--
		case ',':
			if depth == 0 {
				parts = append(parts, text[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, text[from:])
}
