// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func updateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "update KIND NAME",
		Aliases: []string{"set"},
		Short:   "Change a resource",
		Long: "Change fields of a resource, by flags or by --set, or all of it by a file. Lists are replaced as a whole. What\n" +
			"\"isthmus get KIND/NAME -o yaml\" has written can be edited and given back by -f: it is refused when somebody else has\n" +
			"changed the resource meanwhile.\n\n" + shortKinds() + "\n\n" + nameHelp,
		Example: "  isthmus update endpoint web --security-group open --security-group office\n" +
			"  isthmus update target-group web --set health_check.interval=10s --unset targets\n" +
			"  isthmus get endpoint web -o yaml | sed s/open/office/ | isthmus update endpoint web -f -",
	}
	for _, k := range kinds() {
		cmd.AddCommand(updateKindCommand(k))
	}
	noSuchKind(cmd)
	return cmd
}

func updateKindCommand(k *kind) *cobra.Command {
	cmd := &cobra.Command{
		Use:     k.word + " NAME",
		Aliases: wordsFor(k),
		Short:   "Change " + article(k.word),
		Args:    cobra.ExactArgs(1),
	}
	a := newAPI(cmd, formTable, formWide, formYAML, formJSON, formName)
	e, h, w := addFieldFlags(cmd, k, a), changeFlags(cmd, true), waitFlag(cmd)
	var file string
	var sets, unsets []string
	cmd.Flags().StringVarP(&file, "file", "f", "", "`file` with the whole resource in YAML, - for the standard input")
	cmd.Flags().StringArrayVar(&sets, "set", nil, "`path=value` of a field, with the value in YAML")
	cmd.Flags().StringArrayVar(&unsets, "unset", nil, "`path` of a field that gets its default again")
	cmd.ValidArgsFunction = completeNames(a, k)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m, err := e.change(cmd, file, sets, unsets)
		if err != nil {
			return err
		}
		paths := e.paths
		if file != "" {
			paths = []string{"*"}
		}
		return a.call(func(c *caller) error {
			setName(m, c.name(ref{k, args[0]}))
			o, err := c.update(cmd.Context(), k, m, paths, *h)
			if err == nil && !h.dry {
				o, err = w.object(cmd.Context(), c, o)
			}
			if o == nil {
				return err
			}
			return cmp.Or(err, a.show(cmd, []object{o}, true))
		}, e.at)
	}
	return cmd
}

// change is the message of an update by a file, by flags, or by paths.
func (e *edits) change(cmd *cobra.Command, file string, sets, unsets []string) (object, error) {
	for _, text := range sets {
		if err := e.set(text); err != nil {
			return nil, &exitError{exitUsage, err}
		}
	}
	for _, path := range unsets {
		if err := e.unset(path); err != nil {
			return nil, &exitError{exitUsage, err}
		}
	}
	if file == "" && len(e.paths) == 0 {
		return nil, &exitError{exitUsage, errors.New("nothing is to be changed; give flags of fields, --set, --unset or -f")}
	}
	return e.resource(cmd, file)
}

// resource is the message that a file, if there is one, and the edits make.
func (e *edits) resource(cmd *cobra.Command, file string) (object, error) {
	fromFile, err := newMessage(e.kind.message)
	if err != nil {
		return nil, err
	}
	if e.file = file != ""; e.file {
		if err := readMessage(cmd, file, fromFile.Interface()); err != nil {
			return nil, err
		}
	}
	given := fromFile.New()
	if err := e.decode(given.Interface()); err != nil {
		return nil, err
	}
	for _, path := range e.paths {
		steps, err := splitMask(path)
		if err != nil {
			return nil, err
		}
		copyField(fromFile, given, steps)
	}
	return fromFile.Interface().(object), nil
}

// copyField sets one field of a message to that of another.
func copyField(to, from protoreflect.Message, steps []string) {
	f := to.Descriptor().Fields().ByName(protoreflect.Name(steps[0]))
	switch {
	case f == nil: // the daemon says what is wrong with the path
	case len(steps) == 1 && from.Has(f):
		to.Set(f, from.Get(f))
	case len(steps) == 1:
		to.Clear(f)
	case f.IsMap() && from.Has(f):
		key := protoreflect.ValueOfString(steps[1]).MapKey()
		if v := from.Get(f).Map().Get(key); v.IsValid() {
			to.Mutable(f).Map().Set(key, v)
		}
	case !f.IsList() && f.Message() != nil && from.Has(f):
		copyField(to.Mutable(f).Message(), from.Get(f).Message(), steps[1:])
	}
}

func setName(m proto.Message, name string) {
	reflected := m.ProtoReflect()
	reflected.Set(reflected.Descriptor().Fields().ByName("name"), protoreflect.ValueOfString(name))
}
