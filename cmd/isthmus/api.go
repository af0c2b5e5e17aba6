// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// Forms of the output of commands about resources.
const (
	formTable = "table"
	formWide  = "wide"
	formYAML  = "yaml"
	formJSON  = "json"
	formName  = "name"
)

// api is what the commands have in common that read or change resources.
type api struct {
	connection
	account string
	output  oneOf[string]
}

// newAPI adds the common flags to a command. Its output can have the given forms, of which the first is the default.
func newAPI(cmd *cobra.Command, forms ...string) *api {
	a := &api{}
	a.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&a.account, "account", os.Getenv("ISTHMUS_ACCOUNT"),
		"`account` of names that do not say, \"-\" for all in lists (environment: ISTHMUS_ACCOUNT; default: your own)")
	if len(forms) > 0 {
		a.output = oneOf[string]{value: forms[0], of: map[string]string{}}
		for _, form := range forms {
			a.output.of[form] = form
		}
		cmd.Flags().VarP(&a.output, "output", "o", "form of the output: "+a.output.names())
		complete(cmd, "output", forms...)
	}
	for _, flag := range []string{"account", "as"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, completeAccounts(a)) // fails for flags that are not there alone
	}
	return a
}

// call connects to the daemon for as long as f runs. At names fields in errors.
func (a *api) call(f func(*caller) error, at func(path string) string) error {
	return a.use(func(conn *grpc.ClientConn) error { return f(&caller{conn: conn, account: a.account}) }, at)
}

// form is the output's.
func (a *api) form() string { return a.output.chosen() }

// print writes a message where the form is that of a message, and has others write otherwise.
func (a *api) print(cmd *cobra.Command, m proto.Message, otherwise func()) error {
	switch a.form() {
	case formJSON:
		return printJSON(cmd.OutOrStdout(), m, "  ")
	case formYAML:
		return printYAML(cmd.OutOrStdout(), m)
	}
	otherwise()
	return nil
}

// show writes resources: one that was asked for alone as itself, others as the manifest that they make.
func (a *api) show(cmd *cobra.Command, list []object, alone bool) error {
	var m proto.Message = manifestOf(list)
	if alone && len(list) == 1 {
		m = list[0]
	}
	return a.print(cmd, m, func() {
		if a.form() == formName {
			for _, o := range list {
				fmt.Fprintln(cmd.OutOrStdout(), o.GetName())
			}
			return
		}
		if len(list) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "There is nothing.")
			return
		}
		printObjects(cmd.OutOrStdout(), list, a.form() == formWide)
	})
}

// manifestOf puts resources into a manifest.
func manifestOf(list []object) *apiv1.Manifest {
	m := &apiv1.Manifest{}
	for _, o := range list {
		reflected := o.ProtoReflect()
		m.ProtoReflect().Mutable(kindOf(reflected).member).List().Append(protoreflect.ValueOfMessage(reflected))
	}
	return m
}

// accountOf is the account in the name of a resource, and idOf its last part.
func accountOf(name string) string {
	parts := strings.Split(name, "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

func idOf(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// changeFlags adds the flags of commands that change one thing.
func changeFlags(cmd *cobra.Command, dry bool) *change {
	h := &change{}
	cmd.Flags().StringVar(&h.requestID, "request-id", "", "`word` that makes the request, sent again within 24 hours, have the effect of one")
	if dry {
		cmd.Flags().BoolVar(&h.dry, "dry-run", false, "check everything, change nothing")
	}
	return h
}

// shortKinds lists the kinds for a help text.
func shortKinds() string {
	short := map[string]string{}
	for alias, word := range aliases {
		if alias != "service" {
			short[word] = alias
		}
	}
	var words []string
	for _, k := range kinds() {
		word := k.word
		if alias := short[strings.ReplaceAll(k.word, "-", "")]; alias != "" {
			word += " (" + alias + ")"
		}
		words = append(words, word)
	}
	return "Kinds: " + strings.Join(words, ", ") + ". Plurals are fine, too."
}

// nameHelp says how to name resources.
const nameHelp = `A name is what its creator chose, the uid (vpce-0123456789abcdef0), or the full name of the API
(accounts/111122223333/endpoints/web); the first two are those of your account, or of --account.`
