import sys, json, hashlib, re
src, out = sys.argv[1:3]
cells=[]; seen=set()
for block in re.split(r'^%%% ', open(src).read(), flags=re.M)[1:]:
    head, body = block.split("\n",1); kind,*tags=head.split(); body=body.strip("\n")
    typ='markdown' if kind=='md' else 'code'
    cid=f"{'text' if typ=='markdown' else 'code'}-{hashlib.sha256(body.encode()).hexdigest()[:8]}"
    n=0
    while cid in seen: n+=1; cid=cid+str(n)
    seen.add(cid)
    lines=body.splitlines(keepends=True)
    c={"cell_type":typ,"id":cid,"metadata":({"tags":tags} if tags else {}),"source":lines}
    if typ=='code': c|={"execution_count":None,"outputs":[]}
    cells.append(c)
nb={"cells":cells,"metadata":{"kernelspec":{"display_name":"Python 3 (ipykernel)","language":"python","name":"python3"}},"nbformat":4,"nbformat_minor":5}
open(out,'w').write(json.dumps(nb,indent=1,ensure_ascii=False)+"\n")
print(len(cells))
