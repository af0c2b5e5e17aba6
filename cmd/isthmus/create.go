// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func createCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create KIND [NAME]",
		Short: "Make a resource",
		Long: "Make a resource from flags, from a file, or both. Without a name its uid is its name. Whole files of resources are made\n" +
			"with \"isthmus apply\".\n\n" + shortKinds(),
		Example: "  isthmus create vpc shop --cidr 10.0.0.0/16\n" +
			"  isthmus create endpoint-service site --load-balancer front --allow arn:aws:iam::111122223333:root\n" +
			"  isthmus create endpoint web --vpc shop --subnet a --service com.amazonaws.vpce.local-1.vpce-svc-0123456789abcdef0",
	}
	for _, k := range kinds() {
		cmd.AddCommand(createKindCommand(k))
	}
	noSuchKind(cmd)
	return cmd
}

func createKindCommand(k *kind) *cobra.Command {
	cmd := &cobra.Command{
		Use:     k.word + " [NAME]",
		Aliases: wordsFor(k),
		Short:   "Make " + article(k.word),
		Args:    cobra.MaximumNArgs(1),
	}
	a := newAPI(cmd, formTable, formWide, formYAML, formJSON, formName)
	e, h, w := addFieldFlags(cmd, k, a), changeFlags(cmd, true), waitFlag(cmd)
	var file string
	cmd.Flags().StringVarP(&file, "file", "f", "", "`file` with the resource in YAML, - for the standard input; flags override it")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m, err := e.resource(cmd, file)
		if err != nil {
			return err
		}
		id := idOf(m.GetName())
		if len(args) > 0 {
			id = args[0]
		}
		return a.call(func(c *caller) error {
			o, err := c.create(cmd.Context(), k, id, m, *h)
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

// article is a word for a kind in a sentence.
func article(word string) string {
	if strings.ContainsAny(word[:1], "ae") {
		return "an " + word
	}
	return "a " + word
}

// wordsFor are the other words for a kind, as commands.
func wordsFor(k *kind) []string {
	words := []string{k.plural}
	for alias := range aliases {
		if named, err := kindNamed(alias); err == nil && named == k {
			words = append(words, alias)
		}
	}
	return words
}

// noSuchKind has a command whose subcommands are kinds understand other spellings of them no better than its own help.
func noSuchKind(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return &exitError{exitUsage, fmt.Errorf("name a kind. %s", shortKinds())}
		}
		_, err := kindNamed(args[0])
		return err
	}
}
