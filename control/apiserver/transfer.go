// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/control/keeper"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

const (
	// partBytes is about how large the parts of a stream are: clients take 4 MiB by default.
	partBytes = 1 << 20
	// maxImport is how many bytes an import may have, all in all; a transaction of the store takes no more.
	maxImport = 256 << 20
)

// Export sends all resources of accounts, those that others depend on first.
func (s resources) Export(r *apiv1.ExportRequest, out grpc.ServerStreamingServer[apiv1.ExportResponse]) error {
	var accounts []string
	for _, name := range r.GetAccounts() {
		account, err := s.parents(out.Context(), accountName(name))
		if err != nil {
			return err
		}
		accounts = append(accounts, account)
	}
	if len(accounts) == 0 {
		account, err := s.parents(out.Context(), "accounts/-")
		if err != nil {
			return err
		}
		accounts = append(accounts, account)
	}
	slices.Sort(accounts)
	var all []resource.Resource
	set := s.snapshot()
	for _, kind := range resource.Kinds() {
		for _, account := range slices.Compact(accounts) {
			all = append(all, set.List(kind, account)...)
		}
	}
	part, size := &apiv1.Manifest{}, 0
	for _, r := range all {
		m := codec.Encode(r)
		if n := proto.Size(m); size > 0 && size+n > partBytes {
			if err := out.Send(&apiv1.ExportResponse{Manifest: part}); err != nil {
				return err
			}
			part, size = &apiv1.Manifest{}, 0
		}
		add(part, m)
		size += proto.Size(m)
	}
	return out.Send(&apiv1.ExportResponse{Manifest: part})
}

// accountName lets accounts be named by their numbers.
func accountName(name string) string {
	if accountPattern.MatchString(name) {
		return "accounts/" + name
	}
	return name
}

// Import restores what was exported, in one transaction.
func (s resources) Import(in grpc.ClientStreamingServer[apiv1.ImportRequest, apiv1.ImportResponse]) error {
	actor := actorOf(in.Context())
	if !actor.Operator {
		return &resource.Error{Code: resource.PermissionDenied, Reason: "OPERATORS_ONLY", EC2: "UnauthorizedOperation",
			Problem: "only operators may import; ask one, or apply the file"}
	}
	all, err := receive(in)
	if err != nil {
		return err
	}
	out, err := s.opts.Keeper.Do(in.Context(), keeper.Request{Actor: actor}, func(tx *resource.Tx) ([]resource.Key, error) {
		var errs []error
		for _, r := range all {
			if err := tx.Restore(resource.Clone(r)); err != nil {
				errs = append(errs, err)
			}
		}
		return nil, errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	return in.SendAndClose(&apiv1.ImportResponse{Resources: uint64(len(all)), Revision: out.Revision})
}

// receive collects a stream's resources, sorted by kind.
func receive(in grpc.ClientStreamingServer[apiv1.ImportRequest, apiv1.ImportResponse]) ([]resource.Resource, error) {
	var all []resource.Resource
	var errs []error
	size := 0
	for {
		part, err := in.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if size += proto.Size(part); size > maxImport {
			return nil, invalid("manifest", "all parts together have more than %d bytes; import fewer accounts at a time", maxImport)
		}
		for path, member := range members(part.GetManifest()) {
			r, err := codec.Decode(member, codec.DecodeOptions{Account: part.GetManifest().GetAccount(), Outputs: true})
			if err != nil {
				errs = append(errs, under(path, err))
				continue
			}
			all = append(all, r)
		}
		if len(errs) > maxProblems {
			break
		}
	}
	slices.SortStableFunc(all, func(a, b resource.Resource) int { return int(a.Metadata().Kind) - int(b.Metadata().Kind) })
	return all, errors.Join(errs...)
}
