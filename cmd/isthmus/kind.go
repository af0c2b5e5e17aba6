// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// kind is a kind of resources as commands know it.
type kind struct {
	resource.Kind
	word    string // endpoint-service
	plural  string // endpoint-services
	message protoreflect.MessageDescriptor
	member  protoreflect.FieldDescriptor // of a manifest
	methods map[string]protoreflect.MethodDescriptor
}

// aliases are short words for kinds.
var aliases = map[string]string{
	"acc": "account", "sub": "subnet", "sg": "securitygroup", "tg": "targetgroup", "lb": "loadbalancer", "svc": "endpointservice",
	"service": "endpointservice", "ep": "endpoint", "att": "attachment", "rt": "routetable",
}

// kinds are all kinds, in the order in which resources can be created. They are found in the schema: there are a member of
// a manifest and five methods for each.
var kinds = sync.OnceValue(func() (all []*kind) {
	members := (&apiv1.Manifest{}).ProtoReflect().Descriptor().Fields()
	for i := range members.Len() {
		f := members.Get(i)
		if !f.IsList() {
			continue
		}
		k := &kind{
			plural: strings.ReplaceAll(string(f.Name()), "_", "-"), message: f.Message(), member: f,
			methods: map[string]protoreflect.MethodDescriptor{},
		}
		k.word = strings.TrimSuffix(k.plural, "s")
		k.Kind, _ = resource.KindOf(f.JSONName())
		all = append(all, k)
	}
	for _, file := range []protoreflect.FileDescriptor{
		apiv1.File_control_api_v1_accounts_proto, apiv1.File_control_api_v1_networks_proto,
		apiv1.File_control_api_v1_loadbalancing_proto, apiv1.File_control_api_v1_endpoints_proto,
	} {
		for _, k := range all {
			k.findMethods(file.Services().Get(0).Methods())
		}
	}
	return all
})

// findMethods notes those methods that are the kind's, by their verbs.
func (k *kind) findMethods(methods protoreflect.MethodDescriptors) {
	name := string(k.message.Name())
	for _, verb := range []string{"Create", "Get", "Update", "Delete"} {
		if m := methods.ByName(protoreflect.Name(verb + name)); m != nil {
			k.methods[verb] = m
		}
	}
	for i := range methods.Len() {
		if m := methods.Get(i); strings.HasPrefix(string(m.Name()), "List") && fieldOf(m.Output(), k.message) != nil {
			k.methods["List"] = m
		}
	}
}

// fieldOf is the field of a message that holds another, or nil.
func fieldOf(holder, held protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	for i := range holder.Fields().Len() {
		if f := holder.Fields().Get(i); f.Message() == held {
			return f
		}
	}
	return nil
}

// kindNamed finds a kind by any word for it: endpoint-services, EndpointService, endpoint_service, svc.
func kindNamed(word string) (*kind, error) {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(s))
	}
	wanted := plain(word)
	for _, try := range []string{wanted, strings.TrimSuffix(wanted, "s")} {
		if long, ok := aliases[try]; ok {
			try = long
		}
		for _, k := range kinds() {
			if plain(k.word) == try {
				return k, nil
			}
		}
	}
	var words []string
	for _, k := range kinds() {
		words = append(words, k.word)
	}
	return nil, &exitError{exitUsage, fmt.Errorf("there is no kind %q; write one of %s", word, strings.Join(words, ", "))}
}

// kindOf is the kind of a message.
func kindOf(m protoreflect.Message) *kind {
	i := slices.IndexFunc(kinds(), func(k *kind) bool { return k.message == m.Descriptor() })
	return kinds()[i]
}

// ref names a resource, or all of a kind without a name.
type ref struct {
	*kind
	name string
}

// parseRefs understands KIND NAME..., KIND/NAME..., KIND,KIND and the full names of the API.
func parseRefs(args []string) (refs []ref, err error) {
	if len(args) == 0 {
		return nil, nil
	}
	if strings.Contains(args[0], "/") {
		for _, arg := range args {
			r, err := parseRef(arg)
			if err != nil {
				return nil, err
			}
			refs = append(refs, r)
		}
		return refs, nil
	}
	for _, word := range strings.Split(args[0], ",") {
		k, err := kindNamed(word)
		if err != nil {
			return nil, err
		}
		if len(args) == 1 {
			refs = append(refs, ref{kind: k})
		}
		for _, name := range args[1:] {
			refs = append(refs, ref{k, name})
		}
	}
	return refs, nil
}

// parseRef understands KIND/NAME and accounts/ACCOUNT/COLLECTION/ID.
func parseRef(arg string) (ref, error) {
	parts := strings.Split(arg, "/")
	word := parts[0]
	switch {
	case len(parts) == 4 && parts[0] == "accounts":
		word = parts[2]
	case len(parts) != 2 || parts[1] == "":
		return ref{}, &exitError{exitUsage, fmt.Errorf("%q names no resource; write KIND/NAME or accounts/ACCOUNT/COLLECTION/NAME", arg)}
	}
	k, err := kindNamed(word)
	if err != nil {
		return ref{}, err
	}
	if len(parts) == 4 {
		return ref{k, arg}, nil
	}
	return ref{k, parts[1]}, nil
}
