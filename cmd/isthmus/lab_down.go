// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-net/isthmus/pkg/lab"
)

// labDownCommand is `isthmus lab down`.
func labDownCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "down NAME... | --all",
		Short: "Take labs away: their processes, namespaces and files",
		Long: "Take labs away: their processes, namespaces and files. Works as well on what a crash has left of one.\n" +
			"Commands that were started by exec go on in a namespace that has no name any more.",
		ValidArgsFunction: completeLabs,
		RunE: func(cmd *cobra.Command, names []string) error {
			if all == (len(names) > 0) {
				return fmt.Errorf("name the labs, or say --all; %s", labNames())
			}
			if all {
				list, err := lab.List(lab.Root)
				if err != nil {
					return err
				}
				for _, l := range list {
					names = append(names, l.Name)
				}
			}
			var errs []error
			for _, name := range names {
				dir, _, err := openLab(name)
				if dir == "" {
					errs = append(errs, err)
					continue
				}
				if err := lab.Down(dir); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "lab %s is gone\n", name)
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all labs")
	return cmd
}
