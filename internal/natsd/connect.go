package natsd

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/damask-sdn/damask/internal/identity"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// serverRoles are the identities that a NATS server may show: its own, or that
// of the service in which it is embedded.
func serverRoles() []accessv1.Role {
	return []accessv1.Role{
		accessv1.Role_ROLE_NATS, accessv1.Role_ROLE_IPAM, accessv1.Role_ROLE_TENANCY,
		accessv1.Role_ROLE_SERVICELB, accessv1.Role_ROLE_EGRESS,
	}
}

// Connect answers a connection that looks for the servers until it is closed:
// also when none is there yet, and after each loss. What is published while
// there is none fails at once instead of waiting in a buffer, so that nothing
// is written long after its writer gave up.
func Connect(servers []string, source *identity.Source, log hclog.Logger) (*nats.Conn, error) {
	if len(servers) == 0 {
		return nil, errors.New("connect to NATS: no servers given")
	}
	nc, err := nats.Connect(strings.Join(servers, ","), clientOptions(source, log.Named("nats"))...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", strings.Join(servers, ", "), err)
	}
	return nc, nil
}

func clientOptions(source *identity.Source, log hclog.Logger) []nats.Option {
	id := source.ID()
	var away atomic.Bool // a loss was logged, or the first attempt failed
	connected := func(nc *nats.Conn) {
		away.Store(false)
		log.Info("connected", "server", nc.ConnectedUrlRedacted())
	}
	return []nats.Option{
		nats.Name(id.String()),
		nats.Secure(source.ClientTLS(serverRoles()...)),
		nats.CustomInboxPrefix(InboxPrefix(id)),
		nats.Timeout(5 * time.Second),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(200 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 300*time.Millisecond),
		nats.ReconnectBufSize(-1),
		// A refused identity may be replaced by a good one at any time.
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(connected),
		nats.ReconnectHandler(connected),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			// A connection that is closed on purpose has no error.
			if err != nil && !away.Swap(true) {
				log.Warn("connection lost, trying again", "error", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if !away.Swap(true) {
				log.Warn("cannot connect, trying again", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("error from the server", "error", err, "subject", subject)
		}),
	}
}

// Open answers a service's connection, and starts the embedded server first if
// the configuration names no other. close ends the connection and the server.
func Open(cfg Config, source *identity.Source, log hclog.Logger) (nc *nats.Conn, closeAll func(), err error) {
	if len(cfg.Servers) > 0 {
		nc, err = Connect(cfg.Servers, source, log)
		if err != nil {
			return nil, nil, err
		}
		return nc, nc.Close, nil
	}
	listen := cfg.Embedded.Listen
	if listen == "" {
		listen = DefaultListen
	}
	srv, err := Start(ServerConfig{StoreDir: cfg.Embedded.StoreDir, Listen: listen, Sync: cfg.Embedded.Sync}, source, log)
	if err != nil {
		return nil, nil, err
	}
	nc, err = Connect([]string{srv.URL()}, source, log)
	if err != nil {
		srv.Stop()
		return nil, nil, err
	}
	return nc, func() { nc.Close(); srv.Stop() }, nil
}
