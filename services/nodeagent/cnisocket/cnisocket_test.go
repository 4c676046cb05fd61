package cnisocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/logtest"
	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/cnisocket"
)

// service answers STATUS by a function.
type service struct {
	cniv1.CNIServiceService // nil: nothing but STATUS is asked
	status                  func(context.Context) error
}

func (s service) Status(ctx context.Context, _ *cniv1.StatusRequest) (*cniv1.StatusResponse, error) {
	if err := s.status(ctx); err != nil {
		return nil, err
	}
	return &cniv1.StatusResponse{}, nil
}

// door is a server that runs.
type door struct {
	path string
	log  *logtest.Lines
	reg  *prometheus.Registry
	stop func() error // tells it to stop, and waits
}

func serve(t *testing.T, answer func(context.Context) error) door {
	t.Helper()
	d := door{path: filepath.Join(t.TempDir(), "cni.sock"), log: &logtest.Lines{}, reg: prometheus.NewRegistry()}
	srv, err := cnisocket.New(d.path, service{status: answer}, hclog.New(&hclog.LoggerOptions{Output: d.log}), d.reg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	d.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// client connects; the connection is closed with the test, or before.
func (d door) client(t *testing.T) (agent cniv1.CNIServiceService, hangUp func()) {
	t.Helper()
	conn, err := net.Dial("unix", d.path)
	if err != nil {
		t.Fatal(err)
	}
	c := ttrpc.NewClient(conn)
	t.Cleanup(func() { _ = c.Close() })
	return cniv1.NewCNIServiceClient(c), func() { _ = c.Close() }
}

// ask asks once, on a connection of its own as the plugin does.
func (d door) ask(t *testing.T, ctx context.Context) error {
	t.Helper()
	agent, hangUp := d.client(t)
	defer hangUp()
	_, err := agent.Status(ctx, &cniv1.StatusRequest{})
	return err
}

func TestErrorsArriveAsTheyWere(t *testing.T) {
	refused := rpcerr.New(codes.ResourceExhausted, "node.damask", "NO_ADDRESS", "no free address", map[string]string{"subnet": "10.130.0.0/23"})
	var violations rpcerr.Violations
	violations.Addf("ifname", "required")
	var answer error
	d := serve(t, func(context.Context) error { return answer })
	for _, c := range []struct {
		name   string
		answer error
		code   codes.Code
		says   string
	}{
		{"none", nil, codes.OK, ""},
		{"with a reason", refused, codes.ResourceExhausted, "no free address"},
		{"with a reason, wrapped", fmt.Errorf("attach pod shop/web: %w", refused), codes.ResourceExhausted, "attach pod shop/web: "},
		{"with every violation", violations.Err("node.damask"), codes.InvalidArgument, "ifname: required"},
		{"of the context", fmt.Errorf("wait: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "too long"},
		{"of no kind", errors.New("the secret"), codes.Internal, "internal error"},
	} {
		answer = c.answer
		err := d.ask(t, t.Context())
		if status.Code(err) != c.code || err != nil && !strings.Contains(rpcerr.Message(err), c.says) {
			t.Errorf("%s: got %v", c.name, err)
		}
		if got, want := rpcerr.Reason(err), rpcerr.Reason(c.answer); got != want {
			t.Errorf("%s: reason %q, want %q", c.name, got, want)
		}
		if got, want := rpcerr.Metadata(err)["subnet"], rpcerr.Metadata(c.answer)["subnet"]; got != want {
			t.Errorf("%s: metadata %q, want %q", c.name, got, want)
		}
		if got, want := len(rpcerr.List(err)), len(rpcerr.List(c.answer)); got != want {
			t.Errorf("%s: %d violations, want %d", c.name, got, want)
		}
	}
	if !strings.Contains(d.log.String(), "the secret") {
		t.Errorf("the cause is not in the log:\n%s", d.log)
	}
}

func TestAPanicEndsTheCallOnly(t *testing.T) {
	d := serve(t, func(context.Context) error { panic("the secret") })
	for range 2 {
		if err := d.ask(t, t.Context()); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v", err)
		}
	}
	want := `
# HELP damask_rpc_calls_total Calls answered, by method and gRPC code.
# TYPE damask_rpc_calls_total counter
damask_rpc_calls_total{code="Internal",method="/damask.cni.v1.CNIService/Status"} 2
`
	if err := testutil.GatherAndCompare(d.reg, strings.NewReader(want), "damask_rpc_calls_total"); err != nil {
		t.Error(err)
	}
}

func TestTheCallersDeadlineIsTheCalls(t *testing.T) {
	left := make(chan time.Duration, 1)
	d := serve(t, func(ctx context.Context) error {
		at, _ := ctx.Deadline()
		left <- time.Until(at)
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := d.ask(t, ctx); err != nil {
		t.Error(err)
	}
	if got := <-left; got < 50*time.Minute || got > time.Hour {
		t.Errorf("an hour became %s", got)
	}
	if err := d.ask(t, context.Background()); err != nil {
		t.Error(err)
	}
	if got := <-left; got <= 0 || got > time.Minute {
		t.Errorf("none became %s", got)
	}
}

func TestACallerThatHangsUpCancelsItsCall(t *testing.T) {
	entered, cancelled := make(chan struct{}), make(chan struct{})
	d := serve(t, func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		close(cancelled)
		return ctx.Err()
	})
	agent, hangUp := d.client(t)
	go func() { _, _ = agent.Status(context.Background(), &cniv1.StatusRequest{}) }()
	<-entered
	hangUp()
	<-cancelled
}

func TestStoppingLetsCallsInProgressFinish(t *testing.T) {
	entered, gate := make(chan struct{}), make(chan struct{})
	d := serve(t, func(ctx context.Context) error {
		close(entered)
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	asked, stopped := make(chan error, 1), make(chan error, 1)
	agent, hangUp := d.client(t)
	go func() {
		_, err := agent.Status(context.Background(), &cniv1.StatusRequest{})
		hangUp()
		asked <- err
	}()
	<-entered
	go func() { stopped <- d.stop() }()
	for { // nothing tells when it has stopped to listen
		conn, err := net.Dial("unix", d.path)
		if err != nil {
			break
		}
		_ = conn.Close()
		runtime.Gosched()
	}
	select {
	case err := <-stopped:
		t.Fatalf("it stopped before its call: %v", err)
	default:
	}
	close(gate)
	if err := <-asked; err != nil {
		t.Errorf("the call in progress: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(d.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestOnlyRootMayCall(t *testing.T) {
	d := serve(t, func(context.Context) error { return nil })
	if info, err := os.Stat(d.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	if os.Getuid() != 0 {
		if os.Getenv("DAMASK_REQUIRE_REAL") == "1" {
			t.Fatal("not root")
		}
		t.Skip("only root can become somebody else")
	}
	conn := dialAsNobody(t, d.path)
	defer conn.Close()
	// Refused before a word is said: the other end closes.
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if err := d.ask(t, t.Context()); err != nil {
		t.Errorf("root: %v", err)
	}
	if !strings.Contains(d.log.String(), "invalid credentials") {
		t.Errorf("the refusal is not in the log:\n%s", d.log)
	}
}

// dialAsNobody connects as a user who got past the file's mode: the kernel notes
// the effective user id of the thread that connects.
func dialAsNobody(t *testing.T, path string) net.Conn {
	t.Helper()
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	const nobody, keep = 65534, ^uintptr(0)
	type dialed struct {
		conn net.Conn
		err  error
	}
	result := make(chan dialed)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, nobody, keep); errno != 0 {
			result <- dialed{nil, errno}
			return
		}
		conn, err := net.Dial("unix", path)
		result <- dialed{conn, err}
	}()
	r := <-result
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.conn
}
