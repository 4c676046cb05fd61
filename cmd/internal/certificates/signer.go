package certificates

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/authority"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// nodeNameExtra is where the API server says on which node the pod runs that a token is of.
// It has checked that when it made the token, and again when it was shown.
const nodeNameExtra = "authentication.kubernetes.io/node-name"

// usages are what an agent's certificate is for: both ends of a connection.
var usages = []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}

// minimum is the shortest that the certificates API lets somebody ask for.
const minimum = 10 * time.Minute

// Signer answers what nodes ask of SignerName. Several may run.
type Signer struct {
	// Client speaks to the API server. Required.
	Client kubernetes.Interface
	// Requester is the user that agents are. Required.
	Requester string
	// TrustDomain of the cluster. Empty: the default one.
	TrustDomain string
	// Lifetime of a certificate; who asks for less gets less. Required.
	Lifetime time.Duration
	// CA answers the CA that issues. Required.
	CA func() (*authority.Authority, error)
	// Log. Required.
	Log hclog.Logger
}

func (s *Signer) requests() certificatesclient.CertificateSigningRequestInterface {
	return s.Client.CertificatesV1().CertificateSigningRequests()
}

// Run answers requests until ctx ends.
func (s *Signer) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(s.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = "spec.signerName=" + SignerName
	}))
	informer := factory.Certificates().V1().CertificateSigningRequests()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](100*time.Millisecond, 10*time.Second))
	add := func(object any) {
		if request, ok := object.(*certificatesv1.CertificateSigningRequest); ok {
			queue.Add(request.Name)
		}
	}
	if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: add, UpdateFunc: func(_, object any) { add(object) },
	}); err != nil {
		return fmt.Errorf("watch requests for certificates: %w", err)
	}
	factory.Start(ctx.Done())
	context.AfterFunc(ctx, queue.ShutDown)
	for {
		name, end := queue.Get()
		if end {
			factory.Shutdown()
			return nil
		}
		request, err := informer.Lister().Get(name)
		if err == nil {
			err = s.Answer(ctx, request)
		}
		if err == nil || apierrors.IsNotFound(err) {
			queue.Forget(name)
		} else {
			// Another replica may have been faster; the next look shows it.
			s.Log.Debug("answering a request for a certificate, trying again", "name", name, "error", err)
			queue.AddRateLimited(name)
		}
		queue.Done(name)
	}
}

// Answer approves or denies a request, and issues what was approved. It does nothing for one
// that was answered.
func (s *Signer) Answer(ctx context.Context, request *certificatesv1.CertificateSigningRequest) error {
	if request.Spec.SignerName != SignerName || len(request.Status.Certificate) > 0 ||
		has(request, certificatesv1.CertificateDenied) || has(request, certificatesv1.CertificateFailed) {
		return nil
	}
	request = request.DeepCopy()
	id, public, refused := s.judge(&request.Spec)
	approved := has(request, certificatesv1.CertificateApproved)
	switch {
	case refused != nil && approved: // by a person: who asks for what is wrong gets nothing all the same
		set(request, certificatesv1.CertificateFailed, "Refused", refused.Error())
		_, err := s.requests().UpdateStatus(ctx, request, metav1.UpdateOptions{})
		return err
	case refused != nil:
		s.Log.Warn("denied a certificate", "name", request.Name, "by", request.Spec.Username, "reason", refused)
		set(request, certificatesv1.CertificateDenied, "Refused", refused.Error())
		_, err := s.requests().UpdateApproval(ctx, request.Name, request, metav1.UpdateOptions{})
		return err
	}
	ca, err := s.CA()
	if err != nil {
		return err
	}
	if !approved {
		set(request, certificatesv1.CertificateApproved, "OwnNode", "asked for by the agent of this node")
		if request, err = s.requests().UpdateApproval(ctx, request.Name, request, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if request.Status.Certificate, err = ca.Sign(id, public, s.lifetime(&request.Spec)); err != nil {
		return err
	}
	if _, err = s.requests().UpdateStatus(ctx, request, metav1.UpdateOptions{}); err == nil {
		s.Log.Info("issued a certificate", "to", id.String())
	}
	return err
}

func (s *Signer) lifetime(spec *certificatesv1.CertificateSigningRequestSpec) time.Duration {
	if spec.ExpirationSeconds == nil {
		return s.Lifetime
	}
	return min(s.Lifetime, max(minimum, time.Duration(*spec.ExpirationSeconds)*time.Second))
}

// judge answers whose certificate a request is for, and with which key, or why it is refused.
// Nothing else of the request comes into the certificate.
func (s *Signer) judge(spec *certificatesv1.CertificateSigningRequestSpec) (id identity.ID, public *ecdsa.PublicKey, err error) {
	if spec.Username != s.Requester {
		return id, nil, fmt.Errorf("%s may not ask: %s may", spec.Username, s.Requester)
	}
	node := spec.Extra[nodeNameExtra]
	if len(node) != 1 {
		return id, nil, errors.New("the token of who asks does not say on which node he is")
	}
	csr, err := parseRequest(spec.Request)
	if err != nil {
		return id, nil, err
	}
	if len(csr.URIs) != 1 || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 {
		return id, nil, errors.New("it must have one URI name, and no other names")
	}
	trustDomain := s.TrustDomain
	if trustDomain == "" {
		trustDomain = identity.DefaultTrustDomain
	}
	if id, err = identity.Parse(trustDomain, csr.URIs[0].String()); err != nil {
		return id, nil, err
	}
	if id.Role != accessv1.Role_ROLE_NODE || id.Name != node[0] {
		return id, nil, fmt.Errorf("it is for %s, and asked for on node %s", id, node[0])
	}
	asked := slices.Clone(spec.Usages)
	slices.Sort(asked)
	if !slices.Equal(asked, usages) {
		return id, nil, fmt.Errorf("its usages are %v, not %v", asked, usages)
	}
	public, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return id, nil, fmt.Errorf("its key is %s, not ECDSA", csr.PublicKeyAlgorithm)
	}
	return id, public, nil
}

// parseRequest reads a PKCS #10 request in PEM form whose sender has the key.
func parseRequest(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("it is no PKCS #10 request in PEM form")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("it is not signed with its key: %w", err)
	}
	return csr, nil
}

func has(request *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(request.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

func set(request *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType, reason, message string) {
	request.Status.Conditions = append(request.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message,
	})
}
