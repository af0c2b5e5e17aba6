// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// endpointTime is how long each deleted resource of a file is waited for: an endpoint is in its subnets until the
// dataplane has let go of it.
const endpointTime = 30 * time.Second

func deleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete {KIND NAME... | KIND/NAME... | -f FILE...}",
		Short: "Delete resources",
		Long: "Delete resources, one after the other: those of files from the last to the first, as what is used must stay until its\n" +
			"users are gone. Endpoints end what passes through them.\n\n" + shortKinds() + "\n\n" + nameHelp,
		Example: "  isthmus delete endpoint web --wait\n  isthmus delete -f consumer.yaml --ignore-not-found",
	}
	a := newAPI(cmd)
	h, w := changeFlags(cmd, false), waitFlag(cmd)
	files := cmd.Flags().StringArrayP("file", "f", nil, "manifest `file` whose resources are deleted, or - for the standard input")
	ignore := cmd.Flags().Bool("ignore-not-found", false, "what is not there is deleted already")
	cmd.ValidArgsFunction = completeRefs(a, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		refs, err := a.toDelete(cmd, *files, args)
		if err != nil {
			return err
		}
		if len(*files) > 0 && w.most == 0 {
			w.most = endpointTime
		}
		return a.call(func(c *caller) error {
			for _, r := range refs {
				switch err := c.remove(cmd.Context(), r, *h); {
				case *ignore && status.Code(err) == codes.NotFound:
					continue
				case err != nil:
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "deleted %s %s\n", r.word, r.name)
				if err := w.gone(cmd.Context(), c, r); err != nil {
					return err
				}
			}
			return nil
		}, nil)
	}
	return cmd
}

// toDelete are the resources that arguments name, or those of files, last first.
func (a *api) toDelete(cmd *cobra.Command, paths, args []string) ([]ref, error) {
	if len(paths) == 0 {
		refs, err := parseRefs(args)
		if err == nil && (len(refs) == 0 || refs[0].name == "") {
			err = &exitError{exitUsage, errors.New("name what to delete: KIND NAME, or -f FILE")}
		}
		return refs, err
	}
	if len(args) > 0 {
		return nil, &exitError{exitUsage, errors.New("name resources, or give files with -f; not both")}
	}
	manifests, err := readManifests(cmd, paths)
	if err != nil {
		return nil, err
	}
	var refs []ref
	for _, f := range manifests {
		if f.Account == "" {
			f.Account = a.account
		}
		for _, k := range kinds() {
			list := f.ProtoReflect().Get(k.member).List()
			for i := range list.Len() {
				name := list.Get(i).Message().Interface().(object).GetName()
				refs = append(refs, ref{k, (&caller{account: f.Account}).name(ref{k, name})})
			}
		}
	}
	// Kinds are deleted in the inverse order of their creation, over all files.
	slices.SortStableFunc(refs, func(x, y ref) int { return int(y.Kind) - int(x.Kind) })
	return refs, nil
}
