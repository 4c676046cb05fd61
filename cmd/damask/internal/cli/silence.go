package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcerr"
)

// service is the connection to a service. Nobody but the connection knows who
// it is that does not answer, so it says that itself.
type service struct {
	grpc.ClientConnInterface
	name      string
	addresses []string
}

// Invoke is a call.
func (s service) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	begin := time.Now()
	err := s.ClientConnInterface.Invoke(ctx, method, args, reply, options...)
	switch code := status.Code(err); {
	case code != codes.DeadlineExceeded && code != codes.Unavailable, rpcerr.Reason(err) != "":
		return err
	}
	return &refusal{cause: err, text: fmt.Sprintf("the %s service does not answer at %s: gave up after %s%s",
		s.name, strings.Join(s.addresses, " or "), time.Since(begin).Round(100*time.Millisecond), reasonOf(err))}
}

// reasonOf answers why the last connection was not made, if gRPC tells.
func reasonOf(err error) string {
	for _, mark := range []string{"Error while dialing: ", "desc = ", "latest balancer error: "} {
		if _, reason, found := strings.Cut(rpcerr.Message(err), mark); found {
			return " (" + strings.ReplaceAll(strings.Trim(reason, "\" "), "\n", " ") + ")"
		}
	}
	return ""
}
