// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// completionTime is how long a shell that completes a word waits for the daemon.
const completionTime = 2 * time.Second

// completion is the type of functions that complete words.
type completion = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

// complete has a flag complete to words; without any, to nothing rather than files.
func complete(cmd *cobra.Command, flag string, words ...string) {
	// The error is about flags that are not there, which the tests complete.
	_ = cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	})
}

// asked completes words to what a daemon knows. One that does not answer knows nothing.
func (a *api) asked(cmd *cobra.Command, question func(context.Context, *caller) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	var words []string
	err := a.call(func(c *caller) (err error) {
		words, err = question(ctx, c)
		return err
	}, nil)
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// names are those of a kind: ids where they are enough.
func (c *caller) names(ctx context.Context, k *kind, but []string) (words []string, err error) {
	list, err := c.list(ctx, k, c.parent())
	if err != nil {
		return nil, err
	}
	several := slices.ContainsFunc(list, func(o object) bool { return accountOf(o.GetName()) != accountOf(list[0].GetName()) })
	for _, o := range list {
		word := idOf(o.GetName())
		if several && len(strings.Split(o.GetName(), "/")) == 4 {
			word = o.GetName()
		}
		if !slices.Contains(but, word) {
			words = append(words, word)
		}
	}
	return words, nil
}

// completeNames completes names of a kind.
func completeNames(a *api, k *kind) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.asked(cmd, func(ctx context.Context, c *caller) ([]string, error) { return c.names(ctx, k, nil) })
	}
}

// completeKinds completes kinds.
func completeKinds(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var words []string
	for _, k := range kinds() {
		words = append(words, k.plural)
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeRefs completes KIND NAME... and KIND/NAME.
func completeRefs(a *api, all bool) completion {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		head, _, slash := strings.Cut(word, "/")
		switch {
		case slash:
			k, err := kindNamed(head)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.asked(cmd, func(ctx context.Context, c *caller) ([]string, error) {
				words, err := c.names(ctx, k, nil)
				for i := range words {
					words[i] = head + "/" + words[i]
				}
				return words, err
			})
		case len(args) == 0:
			words, directive := completeKinds(cmd, args, word)
			if all {
				words = append(words, "all")
			}
			return words, directive
		}
		k, err := kindNamed(args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.asked(cmd, func(ctx context.Context, c *caller) ([]string, error) { return c.names(ctx, k, args[1:]) })
	}
}

// completeAccounts completes accounts.
func completeAccounts(a *api) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.asked(cmd, func(ctx context.Context, c *caller) ([]string, error) { return c.names(ctx, kinds()[0], args) })
	}
}

// completeConnections completes uids of endpoints, and first the service.
func completeConnections(a *api) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.asked(cmd, func(ctx context.Context, c *caller) (words []string, err error) {
			list, err := c.connections(ctx)
			for _, k := range list {
				if service := idOf(k.Service); len(args) == 0 && !slices.Contains(words, service) {
					words = append(words, service)
				}
				if !slices.Contains(args, k.EndpointUid) {
					words = append(words, k.EndpointUid)
				}
			}
			return words, err
		})
	}
}

// completeOffers completes names of services that one may use.
func completeOffers(a *api) completion {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.asked(cmd, func(ctx context.Context, c *caller) (words []string, err error) {
			list, err := c.offers(ctx, c.parent())
			for _, o := range list {
				words = append(words, o.ServiceName)
			}
			return words, err
		})
	}
}

// fieldKinds are the kinds that fields name which are not called like one.
var fieldKinds = map[protoreflect.Name]string{"enis": "subnet", "nodes": "subnet"}

// completeField completes the value of a field: names of what it refers to, values of its enum, or nothing.
func completeField(cmd *cobra.Command, a *api, flag string, f protoreflect.FieldDescriptor) {
	if f.Name() == "service_name" {
		_ = cmd.RegisterFlagCompletionFunc(flag, completeOffers(a))
		return
	}
	if f.Kind() == protoreflect.EnumKind {
		complete(cmd, flag, enumWords(f.Enum())...)
		return
	}
	word := string(f.Name())
	if other := fieldKinds[f.Name()]; other != "" {
		word = other
	}
	k, err := kindNamed(word)
	if err != nil || f.Message() != nil && fieldKinds[f.Name()] == "" {
		complete(cmd, flag)
		return
	}
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.asked(cmd, func(ctx context.Context, c *caller) ([]string, error) { return c.names(ctx, k, nil) })
	})
}
