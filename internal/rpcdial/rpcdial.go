// Package rpcdial connects to Damask's gRPC servers.
//
// It owns what every client must do alike: mutual TLS that checks the
// server's role instead of its host name, spreading calls over the replicas
// of a service that say that they are SERVING, keepalive, and retries. It
// promises that a call that finds no replica fails at once when its context
// has no deadline, and otherwise waits for one until the deadline.
//
// A call that is answered UNAVAILABLE is tried again, some times, with a
// growing pause. That is right for every Damask RPC, because the APIs promise
// that all of them are idempotent or carry the revision that they change.
//
// Used by the node agent, the services that read one another, and the CLI.
package rpcdial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // lets the service config below ask servers for their health
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/damask-sdn/damask/internal/identity"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// networkConfig spreads calls over healthy servers. Four attempts with these
// pauses bridge about a second, in which a stopped replica has been noticed.
const networkConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "healthCheckConfig": {"serviceName": ""},
  "methodConfig": [{
    "name": [{}],
    "retryPolicy": {
      "maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

const (
	// pingEvery finds dead peers; rpcserve allows it twice as often.
	pingEvery   = 20 * time.Second
	pingTimeout = 5 * time.Second
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
	// reconnectMax bounds the pause between attempts. Agents must find their
	// way back within seconds when the services return.
	reconnectMax = 3 * time.Second
)

// Config says what to connect to.
type Config struct {
	// Addresses are the "HOST:PORT" of the service's replicas. At least one. A
	// name stands for one replica, also when it has several addresses.
	Addresses []string
	// Roles are the roles that the server may have; usually one. Required.
	Roles []accessv1.Role
	// Dial opens a connection; nil is plain TCP. It lets the CLI connect from
	// inside another network namespace.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// New answers a connection to a service, which connects when it is first
// used. Close it after use.
func New(cfg Config, source *identity.Source) (*grpc.ClientConn, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("connect to service: no address is given")
	}
	if len(cfg.Roles) == 0 {
		return nil, errors.New("connect to service: no role is given")
	}
	dial := cfg.Dial
	if dial == nil {
		dial = dialTCP
	}
	replicas := manual.NewBuilderWithScheme("damask")
	state := resolver.State{}
	for _, address := range cfg.Addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
	}
	replicas.InitialState(state)
	target := "damask:///" + identity.RoleName(cfg.Roles[0])
	conn, err := grpc.NewClient(target, append(common(),
		grpc.WithResolvers(replicas),
		grpc.WithUnaryInterceptor(waitIfBounded),
		grpc.WithTransportCredentials(credentials.NewTLS(source.ClientTLS(cfg.Roles...))),
		grpc.WithDefaultServiceConfig(networkConfig),
		grpc.WithContextDialer(dial),
	)...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", strings.Join(cfg.Addresses, ", "), err)
	}
	return conn, nil
}

// Local answers a connection to a server on a unix socket. Calls fail at once
// when nobody serves it: there is no other replica to wait for. Close it
// after use.
func Local(socketPath string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///local", append(common(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socketPath)
		}),
	)...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", socketPath, err)
	}
	return conn, nil
}

// common are the options of every connection.
func common() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithNoProxy(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: pingEvery, Timeout: pingTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax},
			MinConnectTimeout: connectTimeout,
		}),
	}
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// waitIfBounded lets a call wait for a server when it will not wait for ever.
func waitIfBounded(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); ok {
		options = append([]grpc.CallOption{grpc.WaitForReady(true)}, options...) // the caller's own option comes last, and wins
	}
	return invoke(ctx, method, request, reply, conn, options...)
}
