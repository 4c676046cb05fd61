package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
)

// stopTimeout is how long commands that are being served may take when the agent
// stops. What is cut off is undone, or taken away at the next start.
const stopTimeout = 10 * time.Second

// Serve answers commands on a unix socket until ctx ends, then lets those under
// way finish. The socket's file is for its owner alone (0600), from the moment
// when it exists; its directory is made with 0700 if it is missing. An old file
// is replaced, unless somebody still answers there.
func (s *Server) Serve(ctx context.Context, socket string) error {
	listener, err := listen(socket)
	if err != nil {
		return fmt.Errorf("listen for CNI commands at %s: %w", socket, err)
	}
	defer os.Remove(socket)
	server := grpc.NewServer()
	nodev1.RegisterCNIServiceServer(server, s)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve CNI commands: %w", err)
	case <-ctx.Done():
	}
	timer := time.AfterFunc(stopTimeout, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
	<-ended
	return nil
}

// listen makes the socket in a directory that nobody else can enter and moves it
// to its place when its mode is right, so that there is no moment in which others
// could connect, and no process-wide umask to change.
func listen(socket string) (net.Listener, error) {
	if conn, err := net.Dial("unix", socket); err == nil {
		return nil, errors.Join(errors.New("another process answers there"), conn.Close())
	}
	dir := filepath.Dir(socket)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(dir, ".cni-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	path := filepath.Join(private, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // it would remove the old name
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if err := os.Rename(path, socket); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}
