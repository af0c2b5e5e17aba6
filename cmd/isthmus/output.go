// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-net/isthmus/control/codec"
)

// printJSON writes a message with the names of the schema, fields that are zero included. Numbers of 64 bits are
// strings, as everywhere in the JSON of protobuf.
func printJSON(w io.Writer, m proto.Message, indent string) error {
	data, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	// protojson varies its blanks from build to build, so that nobody compares its bytes; scripts do.
	var out bytes.Buffer
	if indent == "" {
		err = json.Compact(&out, data)
	} else {
		err = json.Indent(&out, data, "", indent)
	}
	if err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err = w.Write(out.Bytes())
	return err
}

// printYAML writes a message as files have it that are applied.
func printYAML(w io.Writer, m proto.Message) error {
	data, err := codec.MarshalYAML(m)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// table writes columns.
type table struct{ w *tabwriter.Writer }

// newTable begins a table with the names of its columns.
func newTable(w io.Writer, columns ...any) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(columns...)
	return t
}

// row writes one line; an empty cell becomes a hyphen, so that columns can be cut.
func (t table) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		if text := fmt.Sprint(cell); text != "" {
			fmt.Fprint(t.w, text)
		} else {
			fmt.Fprint(t.w, "-")
		}
	}
	fmt.Fprintln(t.w)
}

// done writes what is left.
func (t table) done() { t.w.Flush() }
