// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
)

func getCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get {KIND [NAME...] | KIND/NAME... | all}",
		Short: "List resources",
		Long: "List resources. YAML and JSON have one resource that is asked for by its name as itself, which \"isthmus update -f\" takes,\n" +
			"and several as a manifest, which \"isthmus apply -f\" takes.\n\n" + shortKinds() + "\n\n" + nameHelp,
		Example: "  isthmus get endpoints\n  isthmus get vpc,subnet -o wide\n  isthmus get endpoint/web -o yaml\n  isthmus get all --account -",
		Args:    cobra.MinimumNArgs(1),
	}
	a := newAPI(cmd, formTable, formWide, formYAML, formJSON, formName)
	cmd.ValidArgsFunction = completeRefs(a, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		refs, err := refsOrAll(args)
		if err != nil {
			return err
		}
		return a.call(func(c *caller) error {
			list, err := c.find(cmd.Context(), refs)
			if err != nil {
				return err
			}
			return a.show(cmd, list, refs[0].name != "")
		}, nil)
	}
	return cmd
}

// refsOrAll is parseRefs that knows the word all.
func refsOrAll(args []string) (refs []ref, err error) {
	if len(args) != 1 || args[0] != "all" {
		return parseRefs(args)
	}
	for _, k := range kinds() {
		refs = append(refs, ref{kind: k})
	}
	return refs, nil
}
