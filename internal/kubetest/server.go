package kubetest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/damask-sdn/damask/internal/proctest"
)

const (
	// step is how often a question is asked whose answer nobody announces.
	step = 20 * time.Millisecond
	// startLimit bounds a start. It only matters when a program hangs: one that
	// ends is noticed at once.
	startLimit = 3 * time.Minute
	// etcdSocket is below the working directory of both programs, which keeps the
	// path of the socket as short as the kernel wants it.
	etcdSocket = "etcd.sock"
)

const (
	// ServiceCIDR is where cluster IPs are from: the ancestor's default.
	ServiceCIDR = "172.30.0.0/16"
	// ServiceIP is the cluster IP of the service "kubernetes".
	ServiceIP = "172.30.0.1"
	// DNSServiceIP is the cluster IP that pods are told to ask for names, where a cluster
	// has such a service. Nobody makes it here.
	DNSServiceIP = "172.30.0.10"
	// Advertised is the endpoint of the service "kubernetes". Endpoints may not be
	// loopback addresses; this one is kept for documentation (RFC 5737). Nobody is
	// there unless a test says so: see Cluster.ServeAlsoAt.
	Advertised = "192.0.2.1"
)

// start starts a program in the test's directory, with a log beside its data.
func (c *Cluster) start(t testing.TB, program string, args ...string) *proctest.Process {
	t.Helper()
	log, err := os.OpenFile(c.path(program+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(c.programs+"/"+program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, log, log
	process := proctest.Start(t, cmd)
	// At the end of a test nobody is there to be told goodbye.
	t.Cleanup(process.Kill)
	return process
}

// startEtcd returns when etcd listens. Clients wait for the rest by themselves.
func (c *Cluster) startEtcd(t testing.TB) {
	t.Helper()
	c.etcd = c.start(t, etcdProgram,
		"--data-dir=data", "--unsafe-no-fsync", "--log-level=warn", "--enable-grpc-gateway=false",
		"--listen-client-urls=unix://"+etcdSocket, "--listen-peer-urls=unix://peer.sock",
		// A single member has nobody to wait for before it elects itself.
		"--heartbeat-interval=20", "--election-timeout=200",
		// It must advertise something, and there is nobody who would read it.
		"--advertise-client-urls=http://localhost:0", "--initial-advertise-peer-urls=http://localhost:0",
		"--initial-cluster=default=http://localhost:0")
	await(t, c.etcd, "etcd listens", func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", c.path(etcdSocket))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// StartServer starts the API server again after StopServer or KillServer, on the
// same port and the same store, and returns when it is ready.
func (c *Cluster) StartServer(t testing.TB) {
	t.Helper()
	args := []string{
		"--etcd-servers=unix://" + etcdSocket,
		"--bind-address=" + c.port.host(), "--secure-port=" + c.port.text(), "--permit-port-sharing",
		"--advertise-address=" + Advertised, "--service-cluster-ip-range=" + ServiceCIDR,
		"--cert-dir=.", "--tls-cert-file=" + servingCertificate, "--tls-private-key-file=" + servingKey,
		"--client-ca-file=" + caCertificate,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + accountKey, "--service-account-signing-key-file=" + accountKey,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		// Watches end when the server is told to; by default it waits for them a minute.
		"--shutdown-watch-termination-grace-period=2s",
		"--allow-privileged", "--profiling=false",
	}
	if c.controllers {
		args = append(args, reachArgs()...)
	} else {
		// Service accounts are made by the controller manager.
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	c.server = c.start(t, serverProgram, args...)
	client, err := rest.HTTPClientFor(c.Config())
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	defer client.CloseIdleConnections()
	// The namespace is made by the API server itself, and not before it is ready.
	for _, path := range []string{"/readyz", "/api/v1/namespaces/default"} {
		await(t, c.server, "the API server answers "+path, func(ctx context.Context) error {
			return get(ctx, client, c.URL()+path)
		})
	}
}

// StopServer ends the API server as an orderly restart does: clients' watches end,
// and who connects is refused until StartServer.
func (c *Cluster) StopServer() { c.server.Stop() }

// KillServer ends the API server as kill -9 does.
func (c *Cluster) KillServer() { c.server.Kill() }

// LoseStore stops all, throws etcd's data away and starts again: an API server at
// the same URL, which accepts the same users and has no object of before. Its
// resource versions start again too.
func (c *Cluster) LoseStore(t testing.TB) {
	t.Helper()
	c.server.Kill()
	c.etcd.Kill()
	if err := os.RemoveAll(c.path("data")); err != nil {
		t.Fatalf("remove etcd's data: %v", err)
	}
	c.startEtcd(t)
	c.StartServer(t)
}

// await asks until there is no error, and ends the test when the program ends or
// the time is over.
func await(t testing.TB, program *proctest.Process, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-program.Done():
			t.Fatalf("wait until %s: the program ended: %v", what, program.Err())
		case <-ctx.Done():
			t.Fatalf("wait until %s: %v", what, err)
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// ForgetHistory kills the API server and starts it again: it tells nobody any more what
// happened before, as after the hours after which etcd is compacted. Who asks for what
// happened since an older version is refused with 410 Gone.
func (c *Cluster) ForgetHistory(t testing.TB) {
	t.Helper()
	c.KillServer()
	c.StartServer(t)
}
