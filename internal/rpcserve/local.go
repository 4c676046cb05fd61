package rpcserve

import (
	"io/fs"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/damask-sdn/damask/internal/localsocket"
)

// NewLocal listens on a unix socket with a file mode, such as 0600, and
// serves local_only RPCs; see localsocket.Listen.
func NewLocal(path string, mode fs.FileMode, log hclog.Logger, reg prometheus.Registerer) (*Server, error) {
	listener, err := localsocket.Listen(path, mode)
	if err != nil {
		return nil, err
	}
	s, err := newServer(listener, newAllowList(nil), log, reg, grpc.Creds(insecure.NewCredentials()))
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	return s, nil
}
