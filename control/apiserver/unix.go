// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// UnixPeer is the process at the other end of a unix socket, as the kernel knew it when it connected.
type UnixPeer struct {
	credentials.CommonAuthInfo

	UID, GID uint32
	// Groups are those that the user database has for the UID, beside GID.
	Groups []uint32
}

// AuthType makes UnixPeer a credentials.AuthInfo.
func (UnixPeer) AuthType() string { return "unix" }

// unixCredentials asks the kernel who has connected.
type unixCredentials struct{}

// UnixCredentials are the transport credentials of a server on a unix socket. They identify callers by SO_PEERCRED, and
// refuse connections of any other kind. Clients need none: they connect with insecure credentials.
func UnixCredentials() credentials.TransportCredentials { return unixCredentials{} }

// ServerHandshake reads the credentials of the peer. Nothing is exchanged.
func (unixCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("identifying a caller: %T is not a unix socket", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("identifying a caller: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		return nil, nil, fmt.Errorf("identifying a caller: %w", err)
	}
	// The bytes never leave the machine.
	security := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return conn, UnixPeer{CommonAuthInfo: security, UID: cred.Uid, GID: cred.Gid, Groups: groupsOf(cred.Uid)}, nil
}

// groupsOf lists the groups of a user. One that the user database does not have is in none: containers map users that
// the host does not know.
func groupsOf(uid uint32) (groups []uint32) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	return groups
}

func (unixCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's; clients of a unix socket connect with insecure ones")
}

func (unixCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

func (c unixCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName is part of an interface; there is no name.
func (unixCredentials) OverrideServerName(string) error { return nil }
