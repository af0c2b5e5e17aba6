// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

func describeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe {KIND [NAME...] | KIND/NAME...}",
		Short: "Tell the whole story of resources",
		Long: "Tell the whole story of resources: what they are, whether the dataplane runs them and why not, and what passes through\n" +
			"them now. Of what belongs to others it tells what you may see.\n\n" + shortKinds() + "\n\n" + nameHelp,
		Example: "  isthmus describe endpoint web",
		Args:    cobra.MinimumNArgs(1),
	}
	a := newAPI(cmd)
	cmd.ValidArgsFunction = completeRefs(a, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		refs, err := parseRefs(args)
		if err != nil {
			return err
		}
		return a.call(func(c *caller) error {
			list, err := c.find(cmd.Context(), refs)
			if err != nil {
				return err
			}
			for i, o := range list {
				if i > 0 {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				if err := describe(cmd.Context(), cmd.OutOrStdout(), c, o); err != nil {
					return err
				}
			}
			return nil
		}, nil)
	}
	return cmd
}

// describe writes what a resource says of itself, and then what the daemon knows beside it.
func describe(ctx context.Context, w io.Writer, c *caller, o object) error {
	describeResource(w, o)
	s := &story{ctx: ctx, w: w, caller: c}
	switch o := o.(type) {
	case *apiv1.Endpoint:
		return s.endpoint(o)
	case *apiv1.EndpointService:
		return s.service(o)
	case *apiv1.LoadBalancer:
		return s.loadBalancer(o)
	case *apiv1.TargetGroup:
		return s.targetGroup(o)
	case *apiv1.Attachment:
		return s.attachment(o)
	}
	return nil
}

// describeResource writes the fields of a resource in the order of the schema: single ones as lines, lists of messages as
// tables below.
func describeResource(w io.Writer, o object) {
	d, meta, account := newDetails(w), o.GetMetadata(), accountOf(o.GetName())
	d.line("Name", o.GetName())
	d.line("UID", meta.GetUid())
	m := o.ProtoReflect()
	fields := m.Descriptor().Fields()
	var lists []protoreflect.FieldDescriptor
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Name() == "name" || f.Name() == "metadata" || special[f.FullName()]:
		case f.IsList() && f.Message() != nil:
			lists = append(lists, f)
		case m.Has(f) || f.Kind() == protoreflect.BoolKind && f.ContainingOneof() == nil:
			d.line(title(f), describeField(m, f, account))
		}
	}
	if e, ok := o.(*apiv1.Endpoint); ok {
		d.line("State", endpointState(e))
	}
	d.line("Tags", mapText(meta.ProtoReflect().Get(meta.ProtoReflect().Descriptor().Fields().ByName("tags")).Map()))
	d.line("Manifest", meta.GetManifest())
	d.line("Created", timeText(meta.GetCreateTime()))
	d.line("Changed", timeText(meta.GetUpdateTime()))
	d.line("Revision", revisionText(meta))
	d.line("Problem", strings.ReplaceAll(meta.GetProblem(), "\n", "; "))
	d.done()
	for _, f := range lists {
		describeList(w, title(f), m.Get(f).List(), f.Message(), account)
	}
}

// special are fields that are told in other words.
var special = map[protoreflect.FullName]bool{
	"isthmus.v1.Endpoint.state": true, "isthmus.v1.Endpoint.state_reason": true, "isthmus.v1.Endpoint.state_time": true,
}

// endpointState is the state, since when and why.
func endpointState(e *apiv1.Endpoint) string {
	text := enumText(e.State)
	if e.StateTime != nil {
		text += " since " + timeText(e.StateTime)
	}
	if e.StateReason != "" {
		text += ": " + e.StateReason
	}
	return text
}

// revisionText says whether the dataplane runs what there is.
func revisionText(m *apiv1.Metadata) string {
	if m.GetAppliedRevision() >= m.GetRevision() {
		return fmt.Sprintf("%d, in force", m.GetRevision())
	}
	return fmt.Sprintf("%d, NOT in force; the dataplane runs revision %d", m.GetRevision(), m.GetAppliedRevision())
}

// describeField is the text of a field that is no list of messages. A group of fields is on one line.
func describeField(m protoreflect.Message, f protoreflect.FieldDescriptor, account string) string {
	if f.Message() == nil || f.IsMap() || f.Message().ParentFile().Package() == "google.protobuf" {
		return strings.ReplaceAll(fieldText(m, f, account), ",", ", ")
	}
	var parts []string
	group := m.Get(f).Message()
	fields := group.Descriptor().Fields()
	for i := range fields.Len() {
		if g := fields.Get(i); group.Has(g) {
			parts = append(parts, strings.ReplaceAll(string(g.Name()), "_", " ")+" "+describeField(group, g, account))
		}
	}
	return strings.Join(parts, ", ")
}

// describeList writes a table of messages with those columns that are not empty.
func describeList(w io.Writer, title string, list protoreflect.List, item protoreflect.MessageDescriptor, account string) {
	if list.Len() == 0 {
		return
	}
	var shown []protoreflect.FieldDescriptor
	var head []any
	for i := range item.Fields().Len() {
		f := item.Fields().Get(i)
		for j := range list.Len() {
			if list.Get(j).Message().Has(f) {
				shown, head = append(shown, f), append(head, strings.ToUpper(strings.ReplaceAll(string(f.Name()), "_", " ")))
				break
			}
		}
	}
	fmt.Fprintf(w, "\n%s\n", title)
	t := newTable(w, head...)
	for j := range list.Len() {
		var cells []any
		for _, f := range shown {
			cells = append(cells, fieldText(list.Get(j).Message(), f, account))
		}
		t.row(cells...)
	}
	t.done()
}

// titles are those of fields whose names have abbreviations.
var titles = map[protoreflect.Name]string{
	"vpc": "VPC", "cidr": "CIDR", "cidrs": "CIDRs", "enis": "ENIs", "mtu": "MTU", "zone_id": "Zone ID", "zone_ids": "Zone IDs",
	"proxy_protocol_v2": "PROXY protocol v2", "send_tcp_reset": "Send TCP reset",
}

// title is the name of a field for people.
func title(f protoreflect.FieldDescriptor) string {
	if t := titles[f.Name()]; t != "" {
		return t
	}
	words := strings.ReplaceAll(string(f.Name()), "_", " ")
	return strings.ToUpper(words[:1]) + words[1:]
}

// details writes lines of a name and a value.
type details struct{ w *tabwriter.Writer }

func newDetails(w io.Writer) details { return details{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

// line writes one line, and nothing without a value.
func (d details) line(name, value string) {
	if value != "" {
		fmt.Fprintf(d.w, "%s:\t%s\n", name, value)
	}
}

func (d details) done() { d.w.Flush() }

// timeText is a moment for people, in UTC.
func timeText(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}
