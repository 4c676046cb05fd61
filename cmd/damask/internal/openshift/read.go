package openshift

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
)

const (
	// page is how many objects an answer has: as kubectl asks for.
	page = 500
	// attempts is how often a moment is chosen anew that the API server has forgotten
	// (minutes old) before all was read.
	attempts = 3
)

// Read answers the objects of the cluster. later names the kinds that the API server could
// not show at the moment of the first, which were read as they were afterwards: it keeps
// them elsewhere.
func (c *Client) Read(ctx context.Context) (cluster adopt.Cluster, later []string, err error) {
	for range attempts {
		r := reading{client: c}
		if err = r.all(ctx); err == nil {
			return r.cluster, r.later, nil
		}
		if !apierrors.IsResourceExpired(err) {
			break
		}
	}
	return adopt.Cluster{}, nil, err
}

// reading is one attempt.
type reading struct {
	client  *Client
	moment  string // the resourceVersion of all; empty: none was read yet
	cluster adopt.Cluster
	later   []string
	refused refusals
}

// all reads every kind, and then says of which it could not.
func (r *reading) all(ctx context.Context) error {
	for _, k := range kinds {
		moment, err := r.kind(ctx, k, r.moment)
		if apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
			r.later = append(r.later, k.name)
			_, err = r.kind(ctx, k, "")
		} else if r.moment == "" {
			r.moment = moment
		}
		if !r.refused.take(k, err) && err != nil {
			return fmt.Errorf("list %s at %s: %w", k.resource.Resource, r.client.server, err)
		}
	}
	return r.refused.err(r.client.server)
}

// kind reads all pages of a kind as they were at a moment, or are now; it answers when
// that was.
func (r *reading) kind(ctx context.Context, k kind, moment string) (string, error) {
	options := metav1.ListOptions{Limit: page}
	if moment != "" {
		options.ResourceVersion, options.ResourceVersionMatch = moment, metav1.ResourceVersionMatchExact
	}
	for {
		list, err := r.client.api.Resource(k.resource).List(ctx, options)
		if err != nil {
			return "", err
		}
		if err := r.take(k, list); err != nil {
			return "", err
		}
		if list.GetContinue() == "" {
			return list.GetResourceVersion(), nil
		}
		options = metav1.ListOptions{Limit: page, Continue: list.GetContinue()} // it has the moment in it
	}
}

// take takes in a page, through the same door as what kubectl prints.
func (r *reading) take(k kind, list *unstructured.UnstructuredList) error {
	items := make([]map[string]any, 0, len(list.Items))
	for _, item := range list.Items {
		items = append(items, essence(k, item))
	}
	text, err := json.Marshal(map[string]any{"kind": "List", "items": items})
	if err != nil {
		return err
	}
	_, err = r.cluster.Read(bytes.NewReader(text))
	return err
}

// essence leaves out what is large and says nothing: who manages which field, and of the
// status everything but a Node's addresses.
func essence(k kind, item unstructured.Unstructured) map[string]any {
	object := map[string]any{}
	for field, value := range item.Object {
		if field != "metadata" && field != "status" {
			object[field] = value
		}
	}
	metadata := map[string]any{"name": item.GetName(), "uid": string(item.GetUID())}
	if namespace := item.GetNamespace(); namespace != "" {
		metadata["namespace"] = namespace
	}
	if annotations := item.GetAnnotations(); len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	object["metadata"], object["kind"] = metadata, k.name
	if k.resource == nodes {
		addresses, _, _ := unstructured.NestedFieldNoCopy(item.Object, "status", "addresses") // none: it has none
		object["status"] = map[string]any{"addresses": addresses}
	}
	return object
}
