// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// manifestHelp says what a manifest is.
const manifestHelp = `A manifest is a file of resources in YAML, as "isthmus get -o yaml" and "isthmus export" write it. Its name says which
resources an earlier version of it has made, for --prune; its account, or --account, owns what does not say.`

// filesFlag adds -f, which is needed.
func filesFlag(cmd *cobra.Command) *[]string {
	files := cmd.Flags().StringArrayP("file", "f", nil, "manifest `file`, directory of such files, or - for the standard input; may be given several times")
	cmd.MarkFlagRequired("file")
	return files
}

func applyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply -f FILE...",
		Short: "Make resources what files say",
		Long: "Make resources what files say: make those that are not there, change those that are different. A file is applied as a\n" +
			"whole or not at all.\n\n" + manifestHelp,
		Example: "  isthmus apply -f provider.yaml --wait\n  isthmus apply -f site.yaml --prune --dry-run",
		Args:    cobra.NoArgs,
	}
	a := newAPI(cmd, formTable, formYAML, formJSON)
	files, h, w := filesFlag(cmd), changeFlags(cmd, true), waitFlag(cmd)
	prune := cmd.Flags().Bool("prune", false, "delete what an earlier version of the file has made and this one does not have")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		manifests, err := readManifests(cmd, *files)
		if err != nil {
			return err
		}
		for _, f := range manifests {
			r, err := a.apply(cmd.Context(), f, *h, *prune)
			if err != nil {
				return err
			}
			if err := a.print(cmd, r, func() { printPlan(cmd.OutOrStdout(), r, h.dry, false) }); err != nil {
				return err
			}
			err = a.call(func(c *caller) error { return w.revision(cmd.Context(), c, r.Revision) }, nil)
			if err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// apply applies one file.
func (a *api) apply(ctx context.Context, f *manifestFile, h change, prune bool) (r *apiv1.ApplyResponse, err error) {
	if f.Account == "" && a.account != everyAccount {
		f.Account = a.account
	}
	err = a.call(func(c *caller) error {
		r, err = c.resources().Apply(ctx, &apiv1.ApplyRequest{Manifest: f.Manifest, DryRun: h.dry, Prune: prune, RequestId: h.requestID})
		return err
	}, f.at)
	return r, err
}

func diffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff -f FILE...",
		Short: "Say what apply would change",
		Long: "Say what \"isthmus apply\" would change, without changing it. The exit code is 9 if that is anything.\n\n" +
			manifestHelp,
		Args: cobra.NoArgs,
	}
	a := newAPI(cmd, formTable, formYAML, formJSON)
	files := filesFlag(cmd)
	prune := cmd.Flags().Bool("prune", false, "as of apply")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		manifests, err := readManifests(cmd, *files)
		if err != nil {
			return err
		}
		different := false
		for _, f := range manifests {
			r, err := a.apply(cmd.Context(), f, change{dry: true}, *prune)
			if err != nil {
				return err
			}
			for _, c := range r.Changes {
				different = different || c.Action != apiv1.ApplyAction_APPLY_ACTION_NONE
			}
			if err := a.print(cmd, r, func() { printPlan(cmd.OutOrStdout(), r, true, true) }); err != nil {
				return err
			}
		}
		if different {
			return exitStatus(exitDifferent)
		}
		return nil
	}
	return cmd
}

// actions are the words for what is done and for what would be, and a sign.
var actions = map[apiv1.ApplyAction][3]string{
	apiv1.ApplyAction_APPLY_ACTION_CREATE: {"created", "would create", "+"},
	apiv1.ApplyAction_APPLY_ACTION_UPDATE: {"updated", "would update", "~"},
	apiv1.ApplyAction_APPLY_ACTION_DELETE: {"deleted", "would delete", "-"},
	apiv1.ApplyAction_APPLY_ACTION_NONE:   {"unchanged", "unchanged", " "},
}

// printPlan writes what was done or would be: as a sentence for each resource or, of differences alone, with signs.
func printPlan(w io.Writer, r *apiv1.ApplyResponse, dry, signs bool) {
	for _, c := range r.Changes {
		words := actions[c.Action]
		switch {
		case signs && c.Action == apiv1.ApplyAction_APPLY_ACTION_NONE:
			continue
		case signs:
			fmt.Fprintf(w, "%s %s\n", words[2], c.Name)
		case dry:
			fmt.Fprintf(w, "%s %s\n", words[1], c.Name)
		default:
			fmt.Fprintf(w, "%s %s\n", words[0], c.Name)
		}
		for _, f := range c.Fields {
			fmt.Fprintf(w, "    %s: %s -> %s\n", f.Path, oneLine(f.Before), oneLine(f.After))
		}
	}
}

// oneLine is a value in YAML on one line that can be seen: the fields of a message one after the other.
func oneLine(value string) string {
	if value == "" {
		return "(nothing)"
	}
	var parts []string
	for line := range strings.Lines(strings.TrimPrefix(value, "- ")) {
		parts = append(parts, strings.TrimSpace(line))
	}
	return strings.Join(parts, ", ")
}
