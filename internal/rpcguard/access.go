package rpcguard

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// Access answers what the (damask.access.v1.access) option of an RPC says. An RPC
// without it is an error: no server may serve it.
func Access(method protoreflect.MethodDescriptor) (*accessv1.Access, error) {
	if !proto.HasExtension(method.Options(), accessv1.E_Access) {
		return nil, errors.New("it has no (damask.access.v1.access) option")
	}
	access, ok := proto.GetExtension(method.Options(), accessv1.E_Access).(*accessv1.Access)
	if !ok {
		return nil, errors.New("its access option is of another type")
	}
	return access, nil
}

// LocalOnly verifies that every RPC of a service is local_only, as a server on a
// unix socket must. The error names every RPC that is not.
func LocalOnly(service protoreflect.ServiceDescriptor) error {
	var problems []error
	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		access, err := Access(method)
		if err == nil && !access.GetLocalOnly() {
			err = errors.New("it is not local_only, and this server is on a unix socket")
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("RPC /%s/%s: %w", service.FullName(), method.Name(), err))
		}
	}
	return errors.Join(problems...)
}
