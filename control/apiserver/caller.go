// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"os/user"
	"regexp"
	"slices"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// AsKey is the metadata key by which an operator acts as an account: its value is the account's 12 digits.
const AsKey = "isthmus-as"

// Caller says as whom a user or a group acts that comes by the unix socket. The first Caller that fits counts; uid 0 is
// an operator without one.
type Caller struct {
	// UID or Group picks; the other is left out. Group is a name or a number.
	UID   *uint32
	Group string
	// Account is 12 digits; an operator may have none.
	Account string
	// Principal is the ARN that others see; left out, the account's root.
	Principal string
	// Operator sees and changes what all accounts own.
	Operator bool
}

// arnPattern is that of principals that can call: accounts, users, roles and sessions of roles.
var arnPattern = regexp.MustCompile(`^arn:([a-z0-9-]+):(?:iam::([0-9]{12}):(?:root|(?:user|role)/[\w+=,.@/-]{1,576})|` +
	`sts::([0-9]{12}):assumed-role/[\w+=,.@-]{1,64}/[\w+=,.@-]{2,64})$`)

var accountPattern = regexp.MustCompile(`^[0-9]{12}$`)

// accountOf is the account of a principal.
func accountOf(arn, partition string) (string, error) {
	m := arnPattern.FindStringSubmatch(arn)
	if m == nil || m[1] != partition {
		return "", fmt.Errorf("%q is no principal that can call; write arn:%s:iam::111122223333:user/NAME, :role/NAME or :root", arn, partition)
	}
	return m[2] + m[3], nil
}

// rootOf is the principal that stands for an account as a whole.
func rootOf(account, partition string) string {
	return fmt.Sprintf("arn:%s:iam::%s:root", partition, account)
}

// table finds callers.
type table struct {
	partition string
	callers   []Caller
	gids      []uint32 // of callers that are picked by group, at the same index
	operators []string
}

// newTable checks callers and looks up their groups.
func newTable(callers []Caller, operators []string, partition string) (*table, error) {
	t := &table{partition: partition, callers: callers, gids: make([]uint32, len(callers)), operators: operators}
	for i := range callers {
		c := &callers[i]
		if err := c.check(partition); err != nil {
			return nil, fmt.Errorf("callers[%d]: %w", i, err)
		}
		if c.Group == "" {
			continue
		}
		gid, err := groupNumber(c.Group)
		if err != nil {
			return nil, fmt.Errorf("callers[%d]: group: %w", i, err)
		}
		t.gids[i] = gid
	}
	for i, arn := range operators {
		if _, err := accountOf(arn, partition); err != nil {
			return nil, fmt.Errorf("operators[%d]: %w", i, err)
		}
	}
	return t, nil
}

func (c *Caller) check(partition string) error {
	switch {
	case (c.UID == nil) == (c.Group == ""):
		return fmt.Errorf("names a uid or a group, and not both")
	case c.Account == "" && !c.Operator:
		return fmt.Errorf("account is missing; write the 12 digits of the account, or operator: true")
	case c.Account != "" && !accountPattern.MatchString(c.Account):
		return fmt.Errorf("account: %q is not 12 digits", c.Account)
	case c.Principal == "":
		return nil
	}
	account, err := accountOf(c.Principal, partition)
	if err != nil {
		return fmt.Errorf("principal: %w", err)
	}
	if account != c.Account {
		return fmt.Errorf("principal: %s is of account %s, not of %q", c.Principal, account, c.Account)
	}
	return nil
}

func groupNumber(name string) (uint32, error) {
	id := name
	if g, err := user.LookupGroup(name); err == nil {
		id = g.Gid
	}
	gid, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("there is no group %q; make it with groupadd, or give its number", name)
	}
	return uint32(gid), nil
}

// unix finds a caller of the socket.
func (t *table) unix(p *UnixPeer) (resource.Actor, bool) {
	for i := range t.callers {
		c := &t.callers[i]
		if c.UID != nil && *c.UID != p.UID || c.Group != "" && t.gids[i] != p.GID && !slices.Contains(p.Groups, t.gids[i]) {
			continue
		}
		a := resource.Actor{Account: c.Account, Principal: c.Principal, Operator: c.Operator || p.UID == 0}
		if a.Principal == "" && a.Account != "" {
			a.Principal = rootOf(a.Account, t.partition)
		}
		return a, true
	}
	return resource.Actor{Operator: true}, p.UID == 0
}

// identify says who sent the call of a context.
func (s *Server) identify(ctx context.Context) (resource.Actor, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return resource.Actor{}, status.Error(codes.Unauthenticated, "the connection names no caller")
	}
	var actor resource.Actor
	switch info := p.AuthInfo.(type) {
	case UnixPeer:
		if actor, ok = s.table.unix(&info); !ok {
			return actor, status.Errorf(codes.Unauthenticated, "uid %d and its groups are no callers; have an operator add one of them "+
				"to callers in the daemon's configuration", info.UID)
		}
	case *tlsPeer:
		if err := info.valid(s.opts.Now()); err != nil {
			return actor, status.Error(codes.Unauthenticated, err.Error())
		}
		account, err := accountOf(info.principal, s.table.partition)
		if err != nil {
			return actor, status.Error(codes.Unauthenticated, err.Error())
		}
		actor = resource.Actor{
			Account: account, Principal: info.principal, Operator: slices.Contains(s.table.operators, info.principal),
		}
	default:
		return actor, status.Error(codes.Unauthenticated, "the connection names no caller")
	}
	return s.actingAs(ctx, actor)
}

// actingAs lets operators be an account: then they may do what it may.
func (s *Server) actingAs(ctx context.Context, actor resource.Actor) (resource.Actor, error) {
	as := metadata.ValueFromIncomingContext(ctx, AsKey)
	switch {
	case len(as) == 0:
		return actor, nil
	case !actor.Operator:
		return actor, status.Error(codes.PermissionDenied, "only operators may act as an account")
	case len(as) > 1 || !accountPattern.MatchString(as[0]):
		return actor, status.Errorf(codes.InvalidArgument, "metadata %s must be one account of 12 digits", AsKey)
	}
	return resource.Actor{Account: as[0], Principal: rootOf(as[0], s.table.partition), Host: true}, nil
}

type actorKey struct{}

func withActor(ctx context.Context, a resource.Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// actorOf is who sent a call that went through the interceptors; else nobody, who may see nothing.
func actorOf(ctx context.Context) resource.Actor {
	a, _ := ctx.Value(actorKey{}).(resource.Actor)
	return a
}

// maySee says whether an actor sees what an account owns.
func maySee(a resource.Actor, account string) bool {
	return a.Operator || account != "" && a.Account == account
}
