// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// partBytes is about how large the parts of an import are that are sent at once.
const partBytes = 1 << 20

func exportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export [ACCOUNT...]",
		Short: "Write all resources as a file",
		Long: "Write all resources of accounts, or all that you may see, as a manifest with uids, addresses and states: a copy that\n" +
			"\"isthmus import\" can bring back.",
		Example: "  isthmus export > isthmus.yaml",
	}
	a := newAPI(cmd, formYAML, formJSON)
	cmd.ValidArgsFunction = completeAccounts(a)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && a.account != "" && a.account != everyAccount {
			args = []string{a.account}
		}
		return a.call(func(c *caller) error {
			m, err := c.export(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.print(cmd, m, nil)
		}, nil)
	}
	return cmd
}

// export collects the parts of an export.
func (c *caller) export(ctx context.Context, accounts []string) (*apiv1.Manifest, error) {
	stream, err := c.resources().Export(ctx, &apiv1.ExportRequest{Accounts: accounts})
	if err != nil {
		return nil, err
	}
	all := &apiv1.Manifest{}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		proto.Merge(all, part.Manifest)
	}
}

func importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import -f FILE...",
		Short: "Bring back what export has written",
		Long: "Bring back what \"isthmus export\" has written, as it was: with uids, addresses and states. It is for operators and for\n" +
			"daemons that have none of it yet; all files are one transaction.",
		Args: cobra.NoArgs,
	}
	a := newAPI(cmd)
	files, w := filesFlag(cmd), waitFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		manifests, err := readManifests(cmd, *files)
		if err != nil {
			return err
		}
		return a.call(func(c *caller) error {
			r, err := c.bring(cmd.Context(), manifests)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "imported %d resources\n", r.Resources)
			return w.revision(cmd.Context(), c, r.Revision)
		}, nil)
	}
	return cmd
}

// bring sends manifests for an import, in parts.
func (c *caller) bring(ctx context.Context, manifests []*manifestFile) (*apiv1.ImportResponse, error) {
	stream, err := c.resources().Import(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range manifests {
		for _, part := range partsOf(f.Manifest) {
			// What is wrong with the stream, the answer says.
			if err := stream.Send(&apiv1.ImportRequest{Manifest: part}); err != nil {
				_, err = stream.CloseAndRecv()
				return nil, err
			}
		}
	}
	return stream.CloseAndRecv()
}

// partsOf cuts a manifest.
func partsOf(m *apiv1.Manifest) (parts []*apiv1.Manifest) {
	part, size := &apiv1.Manifest{Account: m.Account}, 0
	for _, k := range kinds() {
		list := m.ProtoReflect().Get(k.member).List()
		for i := range list.Len() {
			item := list.Get(i)
			if n := proto.Size(item.Message().Interface()); size > 0 && size+n > partBytes {
				parts = append(parts, part)
				part, size = &apiv1.Manifest{Account: m.Account}, 0
			}
			size += proto.Size(item.Message().Interface())
			part.ProtoReflect().Mutable(k.member).List().Append(item)
		}
	}
	return append(parts, part)
}
