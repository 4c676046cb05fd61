package cni

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// refusing is an agent that answers every ADD with one error, or not at all.
type refusing struct {
	cniv1.CNIServiceService // nil: nothing but ADD is asked
	err                     error
}

func (r refusing) Add(ctx context.Context, _ *cniv1.AddRequest) (*cniv1.AddResponse, error) {
	if r.err == nil {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return nil, r.err
}

// callRefusing calls such an agent over a real socket.
func callRefusing(t *testing.T, answer error, timeout time.Duration) error {
	t.Helper()
	c := config{socket: filepath.Join(t.TempDir(), "s"), timeout: timeout}
	listener, err := net.Listen("unix", c.socket)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	cniv1.RegisterCNIServiceService(server, refusing{err: answer})
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return call(c, func(ctx context.Context, agent cniv1.CNIServiceService) error {
		_, err := agent.Add(ctx, &cniv1.AddRequest{})
		return err
	})
}

func TestEveryReasonHasItsCode(t *testing.T) {
	for reason, want := range map[string]uint{
		"UNKNOWN_CONTAINER": 3, "INVALID_ENVIRONMENT": 4, "INVALID_NETWORK_CONFIG": 7, "TRY_AGAIN_LATER": 11,
		"NODE_NOT_READY": 50, "NO_ADDRESS": 101, "UNKNOWN_NAMESPACE": 102, "ADDRESS_TAKEN": 103,
		"NETWORK_STATE_DIFFERS": 104, "PORT_TAKEN": 105, "HOST_PORT_TAKEN": 106, "SOMETHING_NEWER": 999,
	} {
		err := callRefusing(t, rpcerr.New(codes.Unknown, "node.damask", reason, "because", nil), time.Minute)
		if code, text := codeAndText(t, err); code != want || text != "because" {
			t.Errorf("%s became %d %q, want %d because", reason, code, text, want)
		}
	}
}

func TestErrorsWithoutReason(t *testing.T) {
	if code, _ := codeAndText(t, callRefusing(t, status.Error(codes.Internal, "oops"), time.Minute)); code != types.ErrInternal {
		t.Errorf("internal error became %d, want 999", code)
	}
	if code, _ := codeAndText(t, callRefusing(t, nil, 50*time.Millisecond)); code != types.ErrTryAgainLater {
		t.Errorf("no answer in time became %d, want 11", code)
	}
	c := config{socket: filepath.Join(t.TempDir(), "nobody"), timeout: time.Minute}
	err := call(c, func(ctx context.Context, agent cniv1.CNIServiceService) error {
		_, err := agent.Add(ctx, &cniv1.AddRequest{})
		return err
	})
	if code, text := codeAndText(t, err); code != types.ErrTryAgainLater {
		t.Errorf("nobody there became %d (%s), want 11", code, text)
	}
	if code, _ := codeAndText(t, asStatus(err)); code != types.ErrPluginNotAvailable {
		t.Errorf("nobody there became %d in STATUS, want 50", code)
	}
}

func TestAnswersThatAreNotUnderstood(t *testing.T) {
	good := func() *cniv1.AddResponse {
		return &cniv1.AddResponse{
			Attachment: &cniv1.Attachment{Ifname: "eth0", Ips: []string{"10.130.0.2/23"}},
			Gateways:   []string{"10.130.0.1"}, Routes: []*cniv1.Route{{Destination: "0.0.0.0/0", Gateway: "10.130.0.1"}},
		}
	}
	if _, err := resultOf(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*cniv1.AddResponse){
		"no address":            func(r *cniv1.AddResponse) { r.Attachment.Ips, r.Gateways = nil, nil },
		"no gateway":            func(r *cniv1.AddResponse) { r.Gateways = nil },
		"address without bits":  func(r *cniv1.AddResponse) { r.Attachment.Ips = []string{"10.130.0.2"} },
		"gateway that is none":  func(r *cniv1.AddResponse) { r.Gateways = []string{"gw"} },
		"route to nowhere":      func(r *cniv1.AddResponse) { r.Routes[0].Destination = "all" },
		"route through nowhere": func(r *cniv1.AddResponse) { r.Routes[0].Gateway = "gw" },
	} {
		r := good()
		spoil(r)
		if _, err := resultOf(r); err == nil {
			t.Errorf("%s: a result was made of it", name)
		}
	}
}
