package server

import (
	"encoding/base64"
	"fmt"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// Limits of requests; the proto files state them.
const (
	defaultServicePage = 1000
	maxServicePage     = 5000
	defaultSlicePage   = 100
	maxSlicePage       = 1000
	maxNamespaces      = 1000
)

// parseService reads what a service should be, with its defaults. Without a
// check only its names are: the rest is checked with what is stored.
func parseService(given *servicelbv1.Service, check func(*servicelbv1.Service, *rpcerr.Violations)) (*servicelbv1.Service, error) {
	var v rpcerr.Violations
	if given == nil {
		v.Addf("service", "is required")
		return nil, v.Err(Domain)
	}
	wish := spec.Defaults(given)
	if check == nil {
		spec.CheckServiceName("service.", wish.GetNamespace(), wish.GetName(), &v)
	} else {
		check(wish, &v)
	}
	return wish, v.Err(Domain)
}

// parseSlice reads what a slice should be, with its defaults.
func parseSlice(given *servicelbv1.EndpointSlice) (*servicelbv1.EndpointSlice, error) {
	var v rpcerr.Violations
	if given == nil {
		v.Addf("endpoint_slice", "is required")
		return nil, v.Err(Domain)
	}
	wish := spec.SliceDefaults(given)
	spec.CheckSlice(wish, &v)
	if wish.GetManagedBy() == spec.Manager {
		v.Addf("endpoint_slice.managed_by", "%q is servicelb itself", spec.Manager)
	}
	return wish, v.Err(Domain)
}

func parseServicePage(r *servicelbv1.ListServicesRequest) (catalog.Query, error) {
	var v rpcerr.Violations
	q := catalog.Query{Namespaces: r.GetNamespaces()}
	parsePage(&v, &q, r.GetPageSize(), defaultServicePage, maxServicePage, r.GetPageToken())
	checkNamespaces(&v, r.GetNamespaces())
	return q, v.Err(Domain)
}

func parseSlicePage(r *servicelbv1.ListEndpointSlicesRequest) (catalog.Query, error) {
	var v rpcerr.Violations
	q := catalog.Query{Namespaces: r.GetNamespaces(), Service: r.GetServiceName()}
	parsePage(&v, &q, r.GetPageSize(), defaultSlicePage, maxSlicePage, r.GetPageToken())
	checkNamespaces(&v, r.GetNamespaces())
	if r.GetServiceName() != "" && len(r.GetNamespaces()) != 1 {
		v.Addf("namespaces", "exactly one goes with service_name, not %d", len(r.GetNamespaces()))
	}
	return q, v.Err(Domain)
}

func parseNeedPodsPage(r *servicelbv1.ListNeedPodsRequest) (catalog.Query, error) {
	var v rpcerr.Violations
	q := catalog.Query{Namespaces: r.GetNamespaces()}
	parsePage(&v, &q, r.GetPageSize(), defaultServicePage, maxServicePage, r.GetPageToken())
	checkNamespaces(&v, r.GetNamespaces())
	return q, v.Err(Domain)
}

func checkNamespaces(v *rpcerr.Violations, namespaces []string) {
	if len(namespaces) > maxNamespaces {
		v.Addf("namespaces", "%d namespaces, at most %d are allowed", len(namespaces), maxNamespaces)
		return
	}
	for i, namespace := range namespaces {
		spec.CheckNamespace(fmt.Sprintf("namespaces[%d]", i), namespace, v)
	}
}

func parsePage(v *rpcerr.Violations, q *catalog.Query, size, standard, most uint32, token string) {
	q.Size = int(standard)
	switch {
	case size > most:
		v.Addf("page_size", "%d, at most %d are allowed", size, most)
	case size > 0:
		q.Size = int(size)
	}
	after, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		v.Addf("page_token", "is not one that a previous answer gave")
	}
	q.After = string(after)
}

// token is the page token of what comes after the key; empty for no key.
func token(after string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(after))
}
