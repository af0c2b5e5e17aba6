// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
)

const (
	// maxRequest is the largest request, in bytes; the value of a key of the store is no larger either.
	maxRequest = 4 << 20
	// maxManifest is the largest request that carries a manifest, which is many resources in one transaction. Ten thousand
	// targets, a thousand endpoints and two hundred services take less than one MiB; it is as much as a file may have.
	maxManifest = 16 << 20
)

// manifestMethods take maxManifest.
var manifestMethods = map[string]bool{
	apiv1.Resources_Apply_FullMethodName:  true,
	apiv1.Resources_Import_FullMethodName: true,
}

// unary is what every call goes through that has one request.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := s.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if err := examine(info.FullMethod, req); err != nil {
		return nil, s.toStatus(ctx, info.FullMethod, err)
	}
	reply, err := next(ctx, req)
	if err != nil {
		return nil, s.toStatus(ctx, info.FullMethod, err)
	}
	return reply, nil
}

// stream is what every call goes through that has several requests or replies.
func (s *Server) stream(srv any, inner grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := s.admit(inner.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	if err := next(srv, &admitted{ServerStream: inner, ctx: ctx, server: s, method: info.FullMethod}); err != nil {
		return s.toStatus(ctx, info.FullMethod, err)
	}
	return nil
}

// admit identifies the caller. Anybody who can connect may ask about health.
func (s *Server) admit(ctx context.Context, method string) (context.Context, error) {
	if strings.HasPrefix(method, "/"+grpc_health_v1.Health_ServiceDesc.ServiceName+"/") {
		return ctx, nil
	}
	actor, err := s.identify(ctx)
	if err != nil {
		return nil, err
	}
	return withActor(ctx, actor), nil
}

// admitted is a stream of a caller who is known.
type admitted struct {
	grpc.ServerStream
	ctx    context.Context
	server *Server
	method string
}

func (a *admitted) Context() context.Context { return a.ctx }

// RecvMsg examines each request.
func (a *admitted) RecvMsg(m any) error {
	if err := a.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return examine(a.method, m)
}

// SendMsg asks for each reply whether the caller is still good: a stream may outlive his certificate.
func (a *admitted) SendMsg(m any) error {
	if _, err := a.server.admit(a.ServerStream.Context(), a.method); err != nil {
		return err
	}
	return a.ServerStream.SendMsg(m)
}

// examine refuses what is too large, and what the schema does not have: it would be ignored in silence.
func examine(method string, req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "%T is no message", req)
	}
	if size := proto.Size(m); size > maxRequest && !manifestMethods[method] {
		return status.Errorf(codes.ResourceExhausted, "the request has %d bytes; at most %d are taken", size, maxRequest)
	}
	if path, number := codec.UnknownField(m); number != 0 {
		return invalid(path, "has the unknown field %d; the caller's program is newer than this server, or the request is damaged", number)
	}
	return nil
}
