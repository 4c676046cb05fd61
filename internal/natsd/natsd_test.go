package natsd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
)

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func startServer(t testing.TB, ca *identitytest.CA, cfg natsd.ServerConfig) *natsd.Server {
	t.Helper()
	srv, err := natsd.Start(cfg, ca.Source(t, identitytest.Service(t, "nats")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Stop)
	return srv
}

func alone(t testing.TB, ca *identitytest.CA) *natsd.Server {
	t.Helper()
	return startServer(t, ca, natsd.ServerConfig{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"})
}

// connect connects as an identity and waits until it is.
func connect(t testing.TB, ca *identitytest.CA, id identity.ID, urls ...string) *nats.Conn {
	t.Helper()
	nc, err := natsd.Connect(urls, ca.Source(t, id), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	status := nc.StatusChanged(nats.CONNECTED)
	defer nc.RemoveStatusListener(status)
	if !nc.IsConnected() {
		select {
		case <-status:
		case <-soon(t).Done():
			t.Fatalf("%s is not connected: %v", id, nc.LastError())
		}
	}
	return nc
}

// openBucket opens and runs a bucket as long as the test.
func openBucket(t testing.TB, nc *nats.Conn, service string, replicas int) (*bucket.Bucket, error) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	b, err := bucket.Open(ctx, js, nc, bucket.Config{
		Name: natsd.BucketName(service), Subject: "damask." + service + ".v1", Replicas: replicas,
	}, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(running) }()
	t.Cleanup(func() { stop(); <-done })
	return b, b.Ready(soon(t))
}

func put(t testing.TB, b *bucket.Bucket, keys ...string) uint64 {
	t.Helper()
	sequence, err := b.Update(soon(t), func(tx *bucket.Tx) error {
		for _, key := range keys {
			tx.Put(key, fmt.Append(nil, time.Now()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sequence
}

func TestServiceHasItsOwnBucketAndNoOther(t *testing.T) {
	ca := identitytest.New(t)
	srv := alone(t, ca)
	ipam := connect(t, ca, identitytest.Service(t, "ipam"), srv.URL())
	b, err := openBucket(t, ipam, "ipam", 1)
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, "hostsubnet.n1", "claim.s1")
	put(t, b, "hostsubnet.n1")
	if _, err := openBucket(t, ipam, "tenancy", 1); err == nil {
		t.Error("ipam opened the bucket of tenancy")
	}
	tenancy := connect(t, ca, identitytest.Service(t, "tenancy"), srv.URL())
	if _, err := openBucket(t, tenancy, "tenancy", 1); err != nil {
		t.Fatal(err)
	}
	heard, err := tenancy.SubscribeSync("damask.ipam.v1.hostsubnet.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := tenancy.Flush(); err != nil {
		t.Fatal(err)
	}
	put(t, b, "hostsubnet.n2")
	if _, err := heard.NextMsgWithContext(soon(t)); err != nil {
		t.Errorf("tenancy does not hear ipam's changes: %v", err)
	}
}

// refused tells whether the server complains about what do does.
func refused(t *testing.T, nc *nats.Conn, do func() error) bool {
	t.Helper()
	complaints := make(chan error, 10)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { complaints <- err })
	if err := do(); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil { // complaints come before the answer to it
		t.Fatal(err)
	}
	if err := nc.LastError(); err == nil || !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	select {
	case <-complaints:
		return true
	case <-soon(t).Done():
		return false
	}
}

func TestPermissionsSayWhatTheRolesMayDo(t *testing.T) {
	ca := identitytest.New(t)
	srv := alone(t, ca)
	ipam, node, operator := identitytest.Service(t, "ipam"), identity.Node("n1.example.com"), identity.Operator("eve")
	for _, id := range []identity.ID{ipam, identitytest.Service(t, "tenancy")} {
		if _, err := openBucket(t, connect(t, ca, id, srv.URL()), id.Name, 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		id        identity.ID
		subscribe bool
		subject   string
		allowed   bool
	}{
		{ipam, false, "$KV.damask_ipam.hostsubnet.n1", true},
		{ipam, false, "damask.ipam.v1.head.hostsubnet", true},
		{ipam, false, "$KV.damask_tenancy.vnid.1", false},
		{ipam, false, "damask.tenancy.v1.vnid.1", false},
		{ipam, false, "damask.ipam.v1.hostsubnet.n1", false},
		{ipam, false, "$JS.API.STREAM.DELETE.KV_damask_ipam", false},
		{ipam, false, "$JS.API.STREAM.PURGE.KV_damask_ipam", false},
		{ipam, false, "$JS.API.STREAM.UPDATE.KV_damask_tenancy", false},
		{ipam, false, "$JS.API.CONSUMER.CREATE.KV_damask_tenancy.x", false},
		{ipam, true, "damask.tenancy.v1.>", true},
		{ipam, true, "$KV.damask_tenancy.>", false},
		{ipam, true, "_INBOX_service_2Fipam.x", true},
		{ipam, true, "_INBOX_service_2Ftenancy.>", false},
		{node, false, "damask.node.v1.n1_2Eexample_2Ecom.up", true},
		{node, false, "damask.node.v1.n2.up", false},
		{node, false, "damask.ipam.v1.head.hostsubnet", false},
		{node, false, "$KV.damask_ipam.hostsubnet.n1", false},
		{node, false, "$JS.API.INFO", false},
		{node, false, "_INBOX_service_2Fipam.x", false},
		{node, true, "damask.ipam.v1.hostsubnet.>", true},
		{node, true, "_INBOX_node_2Fn1_2Eexample_2Ecom.1", true},
		{node, true, "_INBOX_>", false},
		{node, true, ">", false},
		{node, true, "$JS.API.>", false},
		{node, true, "$SYS.>", false},
		{operator, true, "damask.>", true},
		{operator, true, "$KV.>", false},
		{operator, false, "damask.node.v1.n1.up", false},
		{operator, false, "$JS.API.STREAM.LIST", false},
	} {
		nc := connect(t, ca, c.id, srv.URL())
		got := refused(t, nc, func() error {
			if c.subscribe {
				_, err := nc.Subscribe(c.subject, func(*nats.Msg) {})
				return err
			}
			return nc.Publish(c.subject, nil)
		})
		if got == c.allowed {
			t.Errorf("%s, subscribe %v, %s: got refused %v, want %v", c.id, c.subscribe, c.subject, got, !c.allowed)
		}
		nc.Close()
	}
}

func TestStrangersAreNotLetIn(t *testing.T) {
	ca, other := identitytest.New(t), identitytest.New(t)
	srv := alone(t, ca)
	for name, source := range map[string]*identity.Source{
		"of another CA":            other.Source(t, identity.Node("n1")),
		"a NATS server's identity": ca.Source(t, identitytest.Service(t, "nats")),
	} {
		tls := source.ClientTLS()
		tls.VerifyConnection = nil // the client trusts anybody
		if nc, err := nats.Connect(srv.URL(), nats.Secure(tls)); err == nil {
			nc.Close()
			t.Errorf("%s: was let in", name)
		}
	}
	if nc, err := nats.Connect(strings.Replace(srv.URL(), "tls:", "nats:", 1)); err == nil {
		nc.Close()
		t.Error("a client without certificate was let in")
	}
}

func TestConnectionEndsWithItsCertificateAndComesBackWithTheNext(t *testing.T) {
	ca := identitytest.New(t)
	srv := alone(t, ca)
	dir, id := t.TempDir(), identity.Node("n1")
	files, err := ca.IssueFiles(dir, id, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	source, err := identity.NewSource(files, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := natsd.Connect([]string{srv.URL()}, source, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	lost, back := nc.StatusChanged(nats.RECONNECTING), nc.StatusChanged(nats.CONNECTED)
	if !nc.IsConnected() {
		t.Fatal("not connected with a good certificate")
	}
	select {
	case <-lost:
	case <-soon(t).Done():
		t.Fatal("still connected with an expired certificate")
	}
	if _, err := ca.IssueFiles(dir, id, time.Hour); err != nil {
		t.Fatal(err)
	}
	select {
	case <-back:
	case <-soon(t).Done():
		t.Fatal("not connected with the new certificate")
	}
}

func TestClientDoesNotTalkToAServerThatIsNone(t *testing.T) {
	ca := identitytest.New(t)
	srv, err := natsd.Start(natsd.ServerConfig{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"},
		ca.Source(t, identity.Node("impostor")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Stop)
	source := ca.Source(t, identity.Node("n1"))
	nc, err := natsd.Connect([]string{srv.URL()}, source, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if nc.IsConnected() {
		t.Error("connected to a server with a node's identity")
	}
}

func TestClientWaitsForAServerThatComesLater(t *testing.T) {
	ca := identitytest.New(t)
	srv := alone(t, ca)
	address := strings.TrimPrefix(srv.URL(), "tls://")
	srv.Stop()
	nc, err := natsd.Connect([]string{"tls://" + address}, ca.Source(t, identity.Node("n1")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	status := nc.StatusChanged(nats.CONNECTED)
	if err := nc.Publish("damask.node.v1.n1.up", nil); err == nil {
		t.Error("publishing without a server succeeded")
	}
	startServer(t, ca, natsd.ServerConfig{StoreDir: t.TempDir(), Listen: address})
	select {
	case <-status:
	case <-soon(t).Done():
		t.Fatal("not connected")
	}
}

func TestStartThatCannotSucceedSaysWhy(t *testing.T) {
	ca := identitytest.New(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	busy := t.TempDir()
	startServer(t, ca, natsd.ServerConfig{StoreDir: busy, Listen: "127.0.0.1:0"})
	for name, c := range map[string]struct {
		cfg  natsd.ServerConfig
		want string
	}{
		"port in use": {
			natsd.ServerConfig{StoreDir: t.TempDir(), Listen: taken.Addr().String()},
			"start NATS server: listen on " + taken.Addr().String() + ": another process uses this port",
		},
		"cluster port in use": {
			natsd.ServerConfig{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", Cluster: natsd.Cluster{Name: "c", Listen: taken.Addr().String()}},
			"start NATS server: listen on " + taken.Addr().String() + ": another process uses this port",
		},
		"store in use": {
			natsd.ServerConfig{StoreDir: busy, Listen: "127.0.0.1:0"},
			"start NATS server: another process uses the store directory " + busy,
		},
		"no directory": {
			natsd.ServerConfig{StoreDir: "/dev/null/x", Listen: "127.0.0.1:0"},
			"start NATS server: create store directory: mkdir /dev/null: not a directory",
		},
	} {
		srv, err := natsd.Start(c.cfg, ca.Source(t, identitytest.Service(t, "nats")), hclog.NewNullLogger())
		if err == nil {
			srv.Stop()
			t.Errorf("%s: started", name)
			continue
		}
		if err.Error() != c.want {
			t.Errorf("%s: got %q, want %q", name, err, c.want)
		}
	}
}

func TestEmbeddedServerKeepsTheStoreOverARestart(t *testing.T) {
	ca := identitytest.New(t)
	source := ca.Source(t, identitytest.Service(t, "ipam"))
	cfg := natsd.Config{Embedded: natsd.Embedded{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"}}
	for round := range 2 {
		nc, closeAll, err := natsd.Open(cfg, source, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		b, err := bucket.Open(soon(t), js, nc, bucket.Config{Name: "damask_ipam", Subject: "damask.ipam.v1"}, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		if err := b.Ready(soon(t)); err != nil {
			t.Fatal(err)
		}
		if list, _ := b.List(""); len(list) != round {
			t.Errorf("round %d: got %d keys", round, len(list))
		}
		put(t, b, fmt.Sprintf("hostsubnet.n%d", round))
		stop()
		<-done
		closeAll()
	}
}

func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
